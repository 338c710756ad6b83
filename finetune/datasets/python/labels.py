"""Labels passed in Python: class indices, names, one-hot or multi-label rows."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.datasets.labels import is_one_hot
from finetune.datasets.names import plain
from finetune.errors import ConfigError, unknown_name

log = logging.getLogger(__name__)


def read_labels(
    given: Mapping[str, Any], classes: Sequence[str], activation: str
) -> dict[str, np.ndarray]:
    """Returns the labels of all splits as (n,) int64 indices, or as (n, classes) uint8 of 0 and 1.

    Rows with exactly one 1 each, in all splits that have rows, are one-hot. They become indices,
    unless the model ends with a sigmoid.

    Args:
        given: Labels of each split.
        classes: Label names in the order of the outputs.
        activation: Activation of the output: ``softmax``, ``sigmoid``, or ``linear`` for logits.

    Raises:
        ConfigError: If the labels of any split are anything else.
    """
    labels: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for name, values in given.items():
        try:
            labels[name] = _read(name, values, classes)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    rows = [array for array in labels.values() if array.ndim == 2]
    if activation != "sigmoid" and rows and all(map(is_one_hot, rows)):
        if activation != "softmax" and len(rows) == len(labels):
            log.warning(
                "labels are one-hot: every row has one 1, so each example has one label. For "
                "multi-label data, end the model with a sigmoid."
            )
        return {
            name: array if array.ndim == 1 else array.argmax(axis=1).astype(np.int64)
            for name, array in labels.items()
        }
    kinds = {1: "one label per example", 2: "several labels per example"}
    if len({array.ndim for array in labels.values()}) > 1:
        received = ", ".join(f"{name} {kinds[array.ndim]}" for name, array in labels.items())
        raise ConfigError(
            f"labels must be of one kind in all splits. Received: {received}. Convert the labels."
        )
    return labels


def _read(name: str, given: Any, classes: Sequence[str]) -> np.ndarray:
    number = len(classes)
    labels = _as_array(name, given)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and all(isinstance(value, str | bytes) for value in labels.tolist()):
        return _indices(name, labels, classes)
    whole = labels.dtype.kind in "uib" or (
        labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels))
    )
    if whole and labels.ndim == 1 and ((labels >= 0) & (labels < number)).all():
        return labels.astype(np.int64)
    if whole and labels.shape[1:] == (number,) and np.isin(labels, (0, 1)).all():
        return labels.astype(np.uint8)
    received, advice = _described(labels, number)
    raise ConfigError(
        f"{name} must have labels 0..{number - 1}, shape (n,), or 0 and 1, shape (n, {number}), "
        f"for the {number} outputs of the model. Received: {labels.dtype} {labels.shape}{received}. {advice}"
    )


def _as_array(name: str, given: Any) -> np.ndarray:
    """Returns labels as an array. Object arrays of numbers become arrays of numbers."""
    kind = type(given).__name__
    try:
        labels = np.asarray(None if isinstance(given, Mapping) else given)
        if labels.dtype.kind == "O" and labels.ndim:
            labels = np.asarray(labels.tolist())
    except (ValueError, TypeError):  # rows of different lengths
        labels = np.asarray(None)
    if labels.ndim == 0:
        raise ConfigError(
            f"{name} must have one array of labels, with one row per example. Received: {kind}. "
            "Pass class indices, names, or rows of 0 and 1 of one length."
        )
    return labels


def _described(labels: np.ndarray, number: int) -> tuple[str, str]:
    """Returns the description of labels that do not fit, and what to do about them."""
    advice = "Number the classes from 0, or build the model with one output per class."
    if labels.dtype.kind not in "uibf" or not labels.size:
        return "", advice
    rows = labels.reshape(len(labels), -1)
    absent = np.flatnonzero(~np.isfinite(rows.astype(np.float64)).all(axis=1))
    if len(absent):
        return f", NaN or infinity in row {absent[0]}", "Remove the rows without a label."
    span = f" from {labels.min()} to {labels.max()}"
    shares = labels.shape[1:] == (number,) and labels.min() >= 0
    if shares and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return f"{span}, class probabilities", "Pass the class of each row: labels.argmax(axis=1)."
    broken = np.flatnonzero((rows != np.round(rows)).any(axis=1))
    if labels.ndim == 1 and len(broken):
        first = broken[0]
        return span, (
            f"Row {first} is {labels[first]:g}, which is not a class index. Turn the values into "
            "classes, for example with numpy.digitize: regression is not supported."
        )
    if labels.ndim == 2 and labels.shape[1] != number and np.isin(labels, (0, 1)).all():
        return (
            span,
            f"The labels have {labels.shape[1]} columns: build the model with as many outputs.",
        )
    return span, advice


def _indices(name: str, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Returns the indices of labels that are names."""
    index = {plain(name): i for i, name in enumerate(classes)}
    texts = (value.decode() if isinstance(value, bytes) else value for value in labels.tolist())
    names = [plain(text) for text in texts]
    unknown = next((name for name in names if name not in index), None)
    if unknown is not None:
        raise ConfigError(unknown_name(f"{name} labels", "a name in classes", unknown, classes))
    return np.asarray([index[name] for name in names], np.int64)

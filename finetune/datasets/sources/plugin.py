"""Splits that the function of a plug-in has read."""

from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.assemble import Rows, assemble, object_array, require_rows, row_names
from finetune.datasets.dataset import Dataset, Found, require_classes
from finetune.datasets.names import SPLITS
from finetune.datasets.offered import Splits
from finetune.datasets.sources.array_labels import labels_of, one_hot_note
from finetune.datasets.sources.arrays import checked_inputs, rows_of
from finetune.errors import ConfigError


def assemble_splits(
    name: str,
    given: Any,
    origin: str,
    *,
    max_samples: int | None,
    train_per_class: int | None,
    seed: int,
    skip: bool,
) -> Dataset:
    """Makes a dataset of splits; what is missing is held out as in every other source.

    Args:
        name: Name of the dataset.
        given: What the function of the plug-in has returned.
        origin: Package and version of the plug-in, for messages.
        max_samples: Keep at most this many of each split; None keeps all.
        train_per_class: Keep this many training examples of each class; None keeps all.
        seed: Chooses what is held out and the rows that are kept, 0..2**32-1.
        skip: Whether bad samples are left out, not refused.

    Raises:
        ConfigError: For splits that cannot be used; it names the plug-in.
    """
    where = f"dataset {name} of {origin}"
    pairs = _pairs(where, given)
    problems: list[str] = []
    inputs = {p: _inputs(f"{p} inputs", x, problems, where) for p, (x, _) in pairs.items()}
    targets = {part: np.asarray(y) for part, (_, y) in pairs.items()}
    for part in pairs:
        if len(inputs[part]) != len(targets[part]):
            problems.append(
                f"{where}: {part} must have a label for each example. Received: "
                f"{len(inputs[part])} examples and {len(targets[part])} labels. Correct the "
                "function."
            )
    if problems:
        raise ConfigError(problems)
    require_rows(name, {part: len(array) for part, array in inputs.items()})
    kinds = {_kind(array) for array in inputs.values()}
    if len(kinds) > 1 or len({array.shape[1:] for array in inputs.values()}) > 1:
        received = ", ".join(f"{p} {_kind(x)} {x.shape} {x.dtype}" for p, x in inputs.items())
        raise ConfigError(
            f"{where}: all splits must have examples of one kind and shape. Received: {received}. "
            "Correct the function."
        )
    (kind,) = kinds
    names = {part: f"{part} labels" for part in pairs}
    classes = None if given.classes is None else np.asarray(list(given.classes), dtype=str)
    labels, classes = labels_of(names, targets, classes, where)
    require_classes(where, name, classes)
    return assemble(
        f"plug-in {name}",
        name,
        classes,
        {part: _rows(part, kind, inputs[part], labels[part]) for part in pairs},
        kind=kind,
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
        found=Found(
            {part: f"{part} of {name}" for part in pairs},
            notes=one_hot_note(names, targets, labels),
        ),
    )


def _pairs(where: str, given: Any) -> dict[str, tuple[Any, Any]]:
    """Returns the splits that are given, each a pair of two things that have a length."""
    received = type(given).__name__
    if isinstance(given, Splits):
        pairs: dict[str, Any] = {part: getattr(given, part) for part in SPLITS}
        pairs = {part: pair for part, pair in pairs.items() if pair is not None or part == "train"}
        wrong = [part for part, pair in pairs.items() if not _is_pair(pair)]
        if not wrong:
            return pairs
        received = f"{', '.join(wrong)} of {type(pairs[wrong[0]]).__name__}"
    raise ConfigError(
        f"{where} must be a finetune.Splits whose splits are pairs of inputs and labels. Received: "
        f"{received}. Correct the function."
    )


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(map(_is_sized, pair))


def _is_sized(values: Any) -> bool:
    return hasattr(values, "__len__") and not isinstance(values, str | bytes | dict)


def _inputs(name: str, given: Any, problems: list[str], where: str) -> np.ndarray:
    """Returns inputs as an array: objects for texts, files and encoded images, or numbers."""
    values = list(given) if getattr(given, "dtype", None) in (None, np.dtype(object)) else None
    for kind in (str, bytes, Path):
        if values and all(isinstance(value, kind) for value in values):
            return object_array(values)
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    return checked_inputs(name, array, problems, where)


def _kind(inputs: np.ndarray) -> str:
    return "text" if inputs.dtype == object and isinstance(inputs[0], str) else "image"


def _rows(part: str, kind: str, inputs: np.ndarray, labels: np.ndarray) -> Rows:
    if kind == "text":
        return rows_of(part, part, inputs, labels)
    names = row_names(part, len(inputs))
    if inputs.dtype == object and isinstance(inputs[0], Path):
        names = object_array([str(path) for path in inputs])
    return Rows(inputs, labels, names)

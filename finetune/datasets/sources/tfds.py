"""Loading of a TFDS classification dataset into memory, with its images still encoded."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from finetune.datasets.assemble import finish, object_array
from finetune.datasets.bad_samples import BadSample, text_reason
from finetune.datasets.bundled.digits import Digits
from finetune.datasets.bundled.docstrings import Docstrings
from finetune.datasets.catalog import BUNDLED_DATASETS
from finetune.datasets.dataset import Dataset, Found, Split, require_classes
from finetune.datasets.images.cleaning import clean_images, require_left, settle, without
from finetune.datasets.memory import memory_budget, num_bytes, too_large
from finetune.datasets.sources.tfds_features import Chosen, choose
from finetune.datasets.sources.tfds_preparation import prepare
from finetune.datasets.splits import chosen_rows
from finetune.errors import ConfigError, first_line, unknown_name

log = logging.getLogger(__name__)

_BUILDERS = {"digits": Digits, "docstrings": Docstrings}


def load(
    name: str,
    *,
    version: str | None = None,
    config: str | None = None,
    data_dir: str | None = None,
    splits: dict[str, str],
    input_feature: str | None = None,
    label_feature: str | None = None,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
    skip: bool = False,
) -> Dataset:
    """Loads a bundled or TFDS dataset, and first prepares it on disk if necessary.

    Args:
        name: Name of a bundled dataset or any TFDS dataset.
        version: TFDS version; None takes the newest.
        config: TFDS builder config; None takes the default.
        data_dir: Directory of prepared TFDS datasets; None takes TFDS's own.
        splits: Name of each split (train, validation, test) -> TFDS split expression.
        input_feature: Feature that is the image or text; None takes TFDS's choice, or the only
            candidate.
        label_feature: Feature that is the class label, or a sequence of them; None as above.
        max_samples: Maximum number of examples to keep of each split, stratified; None keeps all.
        train_per_class: Number of training examples to keep of each class; None keeps all.
        seed: Seed of the rows that are kept, 0..2**32-1.
        skip: Whether to leave bad samples out instead of refusing them. Every image is then decoded
            once.

    Raises:
        ConfigError: If the dataset cannot be loaded; it says what to do.
    """
    directory = None if data_dir is None else os.path.expanduser(data_dir)
    builder = _builder(name, version, config, directory)
    chosen = choose(builder, name, input_feature, label_feature)  # before an unnecessary download
    if not builder.is_prepared():
        prepare(builder, name)
        builder = _builder(name, version, config, directory)  # reads the prepared data
        chosen = choose(builder, name, input_feature, label_feature)
    _check_splits(builder, splits)
    require_classes("dataset.name", name, chosen.classes)
    budget = memory_budget()
    log.info("%s %s: reading into memory", name, builder.version)
    loaded: dict[str, Split] = {}
    given: dict[str, np.ndarray] = {}
    bad: list[BadSample] = []
    for part, expression in splits.items():
        rows = None
        per_class = train_per_class if part == "train" else None
        if per_class is not None or max_samples is not None:
            labels = _labels(builder, expression, chosen)
            rows = chosen_rows(labels, per_class, max_samples, seed, chosen.classes)
        split = _read(builder, part, expression, chosen, rows, budget)
        given[part] = split.labels
        split, damaged = _clean(split, chosen, skip, budget, name)
        bad += damaged
        budget -= num_bytes(split.examples)
        loaded[part] = split
    settle(bad, loaded, skip)
    require_left(given, loaded, chosen.classes, bad)
    header = [name, str(builder.version), config, splits, chosen.input, chosen.label]
    return finish(name, header, chosen.classes, loaded, chosen.kind, bad, Found())


def _clean(
    split: Split, chosen: Chosen, skip: bool, budget: int, name: str
) -> tuple[Split, list[BadSample]]:
    """Leaves out rows without a label and rows without a usable text or image."""
    labels = split.labels.reshape(split.num_examples, -1)
    what = "with a label that is not a class" if chosen.multi_label else "without a label"
    reasons = dict.fromkeys(np.flatnonzero(labels.min(axis=1) < 0).tolist(), what)
    if chosen.kind == "text":
        for row, text in enumerate(split.examples):
            if row not in reasons and (reason := text_reason(text)) is not None:
                reasons[row] = reason
    if chosen.kind == "image":
        split, bad = clean_images(split, reasons, check=skip, budget=budget, name=name)
    else:
        split, bad = without(split, reasons)
    kind = np.uint8 if chosen.multi_label else np.int64
    return replace(split, labels=split.labels.astype(kind)), bad


def _builder(name: str, version: str | None, config: str | None, data_dir: str | None) -> Any:
    arguments = {"version": version, "config": config, "data_dir": data_dir}
    try:
        if name in _BUILDERS:
            return _BUILDERS[name](**arguments)
        # Checked first: for unknown names TFDS searches community datasets over the network.
        valid = [*BUNDLED_DATASETS, *tfds.list_builders(with_community_datasets=False)]
        root = Path(data_dir or tfds.core.constants.DATA_DIR)  # type: ignore[attr-defined]
        if name not in valid and not (name.isidentifier() and (root / name).is_dir()):
            raise ConfigError(unknown_name("dataset.name", "a TFDS dataset", name, valid))
        given = {key: value for key, value in arguments.items() if value is not None}
        return tfds.builder(name, try_gcs=False, **given)
    except (AssertionError, ValueError, ImportError, OSError) as error:
        raise ConfigError(
            f"dataset.version, dataset.config and dataset.data_dir must fit dataset {name}. "
            f"Received: {version}, {config}, {data_dir} ({first_line(error)}). "
            "null takes the newest version, the default config and TFDS's own directory."
        ) from error


def _check_splits(builder: Any, splits: dict[str, str]) -> None:
    valid = list(builder.info.splits)
    problems = []
    for part, expression in splits.items():
        try:
            count = builder.info.splits[expression].num_examples
        except (KeyError, ValueError, AssertionError):
            problems.append(
                unknown_name(
                    f"dataset.splits.{part}", "a TFDS split expression", str(expression), valid
                )
            )
            continue
        if count <= 0:  # TFDS counts train[5:2] as -3
            problems.append(_empty(part, expression))
    if problems:
        raise ConfigError(problems)


def _empty(part: str, expression: str) -> str:
    return (
        f"dataset.splits.{part} must have at least one example. Received: {expression}, which is "
        "empty. Choose a larger slice, e.g. train[90%:]."
    )


def _batches(builder: Any, expression: str, chosen: Chosen) -> Iterator[dict[str, Any]]:
    decoders = {chosen.input: tfds.decode.SkipDecoding()} if chosen.kind == "image" else None
    data = builder.as_dataset(
        split=expression,
        shuffle_files=False,
        decoders=decoders,
        read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
    )
    target = _target(chosen)
    return (
        data.map(lambda row: {"input": row[chosen.input], "label": target(row)})
        .batch(256)
        .as_numpy_iterator()
    )


def _labels(builder: Any, expression: str, chosen: Chosen) -> np.ndarray:
    data = builder.as_dataset(
        split=expression,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding({chosen.label: True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    batches = data.map(_target(chosen)).batch(1024).as_numpy_iterator()
    return np.concatenate(list(batches))


def _target(chosen: Chosen) -> Callable[[Any], tf.Tensor]:
    """Returns a function from a row to its label: an index, or 0 and 1 for each class."""

    def index(row: Any) -> tf.Tensor:
        return tf.cast(row[chosen.label], tf.int64)

    def hot(row: Any) -> tf.Tensor:
        labels = tf.cast(row[chosen.label], tf.int64)
        one = tf.reduce_sum(tf.one_hot(labels, len(chosen.classes), dtype=tf.int64), axis=0)
        outside = (labels < 0) | (labels >= len(chosen.classes))
        unknown = tf.cast(tf.reduce_any(outside), tf.int64)
        return tf.minimum(one, 1) - 2 * unknown

    return hot if chosen.multi_label else index


def _read(
    builder: Any,
    part: str,
    expression: str,
    chosen: Chosen,
    rows: np.ndarray | None,
    budget: int,
) -> Split:
    examples: list[Any] = []
    labels: list[np.ndarray] = []
    start = size = 0
    for batch in _batches(builder, expression, chosen):
        count = len(batch["label"])
        keep = np.arange(count)
        if rows is not None:
            first, last = np.searchsorted(rows, (start, start + count))
            keep = rows[first:last] - start
        start += count
        examples.extend(batch["input"][keep])
        labels.append(batch["label"][keep])
        size += sum(map(len, batch["input"][keep]))
        if size > budget:
            raise too_large(builder.name, part, len(examples), budget)
    if not examples:
        raise ConfigError(_empty(part, expression))
    targets = np.concatenate(labels)
    if not chosen.multi_label and targets.max() >= len(chosen.classes):
        raise ConfigError(
            f"dataset.splits.{part} must have labels in 0..{len(chosen.classes) - 1}, one for each "
            f"class. Received: {expression}, with label {targets.max()}. Prepare the dataset again."
        )
    if chosen.kind == "text":
        examples = _decoded(examples, part, expression)
    return Split(part, object_array(examples), targets)


def _decoded(texts: list[bytes], part: str, expression: str) -> list[str]:
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"dataset.splits.{part} must contain texts in UTF-8. Received: {expression} ({error}). "
            "Prepare the dataset again."
        ) from error

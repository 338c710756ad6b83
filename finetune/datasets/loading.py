"""Loads an image classification dataset of TFDS into memory, its images still encoded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorflow_datasets as tfds

from finetune.datasets.catalog import BUNDLED_DATASETS
from finetune.datasets.dataset import (
    Dataset,
    Split,
    chosen_rows,
    make_dataset,
    require_classes,
    too_large,
)
from finetune.datasets.digits import Digits
from finetune.datasets.preparing import first_line, prepare
from finetune.errors import ConfigError, unknown_name

_BUILDERS = {"digits": Digits}


def load(
    name: str,
    *,
    version: str | None = None,
    config: str | None = None,
    data_dir: str | None = None,
    splits: dict[str, str],
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
) -> Dataset:
    """Loads a bundled or TFDS dataset, preparing it on disk first where that is still to do.

    Args:
        name: a bundled dataset or any TFDS name.
        version: TFDS version; None is the newest.
        config: TFDS builder config; None is its default.
        data_dir: where TFDS keeps prepared datasets; None is TFDS's own place.
        splits: split name (train, validation, test) -> TFDS split expression.
        max_samples: keep at most this many of each split, stratified; None keeps all.
        train_per_class: keep this many training images of each class; None keeps all.
        seed: chooses the rows that are kept, 0..2**32-1.

    Raises:
        ConfigError: for whatever cannot be loaded, with what to do about it.
    """
    directory = None if data_dir is None else os.path.expanduser(data_dir)
    builder = _builder(name, version, config, directory)
    image, label = _keys(builder, name)  # before a download that would be in vain
    if not builder.is_prepared():
        prepare(builder, name)
        builder = _builder(name, version, config, directory)  # reads what is on disk now
    _check_splits(builder, splits)
    classes = builder.info.features[label].names
    require_classes("dataset.name", name, classes)
    budget = psutil.virtual_memory().available // 2
    loaded: dict[str, Split] = {}
    for part, expression in splits.items():
        rows = None
        per_class = train_per_class if part == "train" else None
        if per_class is not None or max_samples is not None:
            rows = chosen_rows(_labels(builder, expression, label), per_class, max_samples, seed)
        split = _read(builder, part, expression, (image, label), rows, budget)
        _check_labels(split, expression)
        budget -= sum(map(len, split.examples))
        loaded[part] = split
    return make_dataset(name, [str(builder.version), config, splits], classes, loaded)


def _builder(name: str, version: str | None, config: str | None, data_dir: str | None) -> Any:
    arguments = {"version": version, "config": config, "data_dir": data_dir}
    try:
        if name in _BUILDERS:
            return _BUILDERS[name](**arguments)
        # Asked first: for an unknown name TFDS goes to the network for community datasets.
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


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """Returns the names of the image and the label feature."""
    features = builder.info.features
    keys = builder.info.supervised_keys
    if not isinstance(features, tfds.features.FeaturesDict):
        keys = None
    elif keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        images = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
        labels = [k for k, v in features.items() if isinstance(v, tfds.features.ClassLabel)]
        keys = (images[0], labels[0]) if len(images) == len(labels) == 1 else None
    if (
        keys is None
        or type(features[keys[0]]) is not tfds.features.Image
        or features[keys[0]].np_dtype != np.uint8
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        found = ", ".join(f"{k}: {type(v).__name__}" for k, v in features.items())
        raise ConfigError(
            "dataset.name must be an image classification dataset (one 8-bit image, one class "
            f"label). Received: {name} ({found}). Choose another dataset."
        )
    return keys[0], keys[1]


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
        f"dataset.splits.{part} must have at least one image. Received: {expression}, which is "
        "empty. Choose a larger part, e.g. train[90%:]."
    )


def _batches(builder: Any, expression: str, keys: tuple[str, str]) -> Iterator[dict[str, Any]]:
    image, _ = keys
    data = builder.as_dataset(
        split=expression,
        shuffle_files=False,
        decoders={image: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
    )
    return data.map(lambda row: {key: row[key] for key in keys}).batch(256).as_numpy_iterator()


def _labels(builder: Any, expression: str, label: str) -> np.ndarray:
    data = builder.as_dataset(
        split=expression,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding({label: True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    batches = data.batch(1024).as_numpy_iterator()
    return np.concatenate([batch[label] for batch in batches]).astype(np.int64)


def _read(
    builder: Any,
    part: str,
    expression: str,
    keys: tuple[str, str],
    rows: np.ndarray | None,
    budget: int,
) -> Split:
    images: list[bytes] = []
    labels: list[int] = []
    start = size = 0
    for batch in _batches(builder, expression, keys):
        count = len(batch[keys[1]])
        keep = np.arange(count)
        if rows is not None:
            first, last = np.searchsorted(rows, (start, start + count))
            keep = rows[first:last] - start
        start += count
        images.extend(batch[keys[0]][keep])
        labels.extend(batch[keys[1]][keep])
        size += sum(map(len, batch[keys[0]][keep]))
        if size > budget:
            raise too_large(builder.name, part, len(images), budget)
    held = np.empty(len(images), object)
    held[:] = images
    return Split(part, held, np.asarray(labels, np.int64))


def _check_labels(split: Split, expression: str) -> None:
    if split.num_examples == 0:
        raise ConfigError(_empty(split.name, expression))
    if split.labels.min() < 0:
        raise ConfigError(
            f"dataset.splits.{split.name} must be labelled. Received: {expression}, with "
            f"{int((split.labels < 0).sum())} images without a label. Choose another split."
        )

"""What a run trains on: encoded images in memory, by split."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune.datasets import splits as selection
from finetune.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Split:
    """Encoded images (object array of bytes), their class indices (int64), a digest of both."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    fingerprint: str = ""

    @property
    def num_examples(self) -> int:
        """The images in this split."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All splits; `fingerprint` changes with any image, label or row."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    splits: dict[str, Split]


def make_dataset(
    name: str, header: Sequence[Any], classes: Sequence[str], splits: Mapping[str, Split]
) -> Dataset:
    """Joins splits to a dataset and takes the digest of each and of all.

    Args:
        name: of the dataset.
        header: JSON values that belong to its identity: version, config.
        classes: label names in the order of the indices; at least 2.
        splits: train, validation and test.
    """
    whole = hashlib.sha256(json.dumps([name, *header, list(classes)]).encode())
    done: dict[str, Split] = {}
    for part, split in splits.items():
        own = hashlib.sha256()
        for each in split.images:
            own.update(len(each).to_bytes(8, "little") + each)
        own.update(split.labels.astype("<i8").tobytes())
        done[part] = replace(split, fingerprint=own.hexdigest())
        whole.update(part.encode() + own.digest())
    return Dataset(name, whole.hexdigest(), tuple(classes), done)


def require_classes(where: str, received: str, classes: Sequence[str]) -> None:
    """Refuses fewer than two classes.

    Raises:
        ConfigError: naming the key `where` and what it has `received`.
    """
    if len(classes) < 2:
        raise ConfigError(
            f"{where} must be a dataset of at least 2 classes. Received: {received} "
            f"({len(classes)} class{'es' * (not classes)}). Choose another dataset."
        )


def chosen_rows(
    labels: np.ndarray, per_class: int | None, max_samples: int | None, seed: int
) -> np.ndarray:
    """Returns the rows that a few-shot number and a limit leave, sorted; None keeps all."""
    rows = np.arange(len(labels))
    if per_class is not None:
        rows = selection.few_shot(labels, per_class, seed)
    if max_samples is not None:
        rows = rows[selection.limit(labels[rows], max_samples, seed)]
    return rows


def too_large(name: str, part: str, count: int, budget: int) -> ConfigError:
    """Returns the refusal of a split whose encoded images do not fit into memory."""
    return ConfigError(
        f"dataset.max_samples must keep the encoded images within half of the memory that is "
        f"free. Received: {name}, more than {budget / 2**30:.1f} GiB by image {count} of {part}. "
        f"Set dataset.max_samples below {count}."
    )

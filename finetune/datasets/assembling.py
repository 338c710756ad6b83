"""Rows of any source to a dataset: what is held out, what is kept, and the reading of files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from finetune.datasets.dataset import Dataset, Split, make_dataset
from finetune.datasets.splits import chosen_rows, held_out
from finetune.errors import ConfigError

log = logging.getLogger(__name__)

HELD_OUT = 0.1  # share of the examples for each split that the source does not have
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
PARTS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_MANY_FILES = 10_000


@dataclass(frozen=True, eq=False)
class Rows:
    """A split before any of its rows is dropped or read.

    Args:
        inputs: (n,) object array of paths of files, encoded images or texts; or numbers.
        labels: as in `Split`.
        sources: (n,) object array of str, as in `Split`.
    """

    inputs: np.ndarray
    labels: np.ndarray
    sources: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        """Returns the chosen rows."""
        return Rows(self.inputs[rows], self.labels[rows], self.sources[rows])


def objects(values: Sequence[Any]) -> np.ndarray:
    """Returns an (n,) object array: NumPy itself would look into the values."""
    held = np.empty(len(values), object)
    held[:] = values
    return held


def row_names(where: str, number: int) -> np.ndarray:
    """Returns the sources of the rows of a file or array, counted from 1."""
    return objects([f"{where}:{row}" for row in range(1, number + 1)])


def require_rows(name: str, counts: Mapping[str, int]) -> None:
    """Refuses a split of no rows.

    Raises:
        ConfigError: naming the split.
    """
    for part, count in counts.items():
        if count == 0:
            raise ConfigError(
                f"dataset.path must have at least one example in each split. Received: {name}, "
                f"where {part} is empty. Add examples, or leave {part} out to hold some of train."
            )


def assemble(
    source: str,
    name: str,
    classes: Sequence[str],
    parts: Mapping[str, Rows],
    *,
    kind: str,
    max_samples: int | None,
    train_per_class: int | None,
    seed: int,
) -> Dataset:
    """Holds out the splits that are missing, drops the rows that are not kept, reads the others.

    Args:
        source: of the rows: image_folder, table or arrays; part of the fingerprint.
        name: of the dataset.
        classes: label names in the order of the indices.
        parts: rows of train, and of validation and test where the source has them.
        kind: of the examples: ``image``, ``text`` or ``array``.
        max_samples: keep at most this many of each split, stratified; None keeps all.
        train_per_class: keep this many training examples of each class; None keeps all.
        seed: chooses what is held out and the rows that are kept, 0..2**32-1.

    Raises:
        ConfigError: for an empty split, too few examples to hold some out, or more than fit
            into memory.
    """
    require_rows(name, {part: len(rows.labels) for part, rows in parts.items()})
    whole = _hold_out(parts, seed)
    budget = memory_budget()
    done: dict[str, Split] = {}
    for part in PARTS:
        per_class = train_per_class if part == "train" else None
        if max_samples is not None and whole[part].labels.ndim == 2:
            log.info("%s: at most %d examples, not stratified, seed %d", part, max_samples, seed)
        rows = chosen_rows(whole[part].labels, per_class, max_samples, seed, classes)
        chosen = whole[part].take(rows)
        examples = _read(part, chosen.inputs, budget, name)
        done[part] = Split(part, examples, chosen.labels, sources=chosen.sources)
        budget -= num_bytes(done[part].examples)
    return make_dataset(name, [source, kind], classes, done, kind)


def _hold_out(parts: Mapping[str, Rows], seed: int) -> dict[str, Rows]:
    """Takes the splits that are missing from the training rows."""
    done = dict(parts)
    number = round(HELD_OUT * len(parts["train"].labels))
    for part in PARTS:
        if part in done:
            continue
        train = done["train"]
        rows = held_out(train.labels, number, seed) if number else np.arange(0)
        if not 0 < len(rows) < len(train.labels):
            raise ConfigError(
                f"dataset.path must have a split {part}, or more examples. Received: "
                f"{len(train.labels)} examples, too few to hold a tenth out as {part}. "
                f"Add a split {part}."
            )
        done[part] = train.take(rows)
        done["train"] = train.take(np.setdiff1d(np.arange(len(train.labels)), rows))
        how = "stratified" if train.labels.ndim == 1 else "not stratified"
        log.info("no split %s: %d training examples, %s, seed %d", part, len(rows), how, seed)
    return done


def _read(part: str, inputs: np.ndarray, budget: int, name: str) -> np.ndarray:
    """Returns `inputs` with the bytes of the file in place of each path."""
    if inputs.dtype != object:
        if inputs.nbytes > budget:
            raise too_large(name, part, 1 + budget * len(inputs) // inputs.nbytes, budget)
        return inputs
    if len(inputs) > _MANY_FILES and isinstance(inputs[0], Path):
        log.info("%s: reading %d files", part, len(inputs))
    examples = np.empty(len(inputs), object)
    size = 0
    for row, each in enumerate(inputs):
        examples[row] = _file(each) if isinstance(each, Path) else each
        size += len(examples[row])
        if size > budget:
            raise too_large(name, part, row + 1, budget)
    return examples


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"dataset.path must have files that can be read. Received: {path} ({error.strerror}). "
            "Mend or remove the file."
        ) from error


def memory_budget() -> int:
    """Returns how many bytes of examples may be held: half of what is free."""
    return psutil.virtual_memory().available // 2


def num_bytes(examples: np.ndarray) -> int:
    """Returns the bytes of the examples; the characters, of texts."""
    return examples.nbytes if examples.dtype != object else sum(map(len, examples))


def too_large(name: str, part: str, count: int, budget: int) -> ConfigError:
    """Returns the refusal of a split whose examples, as stored, do not fit into memory."""
    return ConfigError(
        f"dataset.max_samples must keep the examples within half of the memory that is "
        f"free. Received: {name}, more than {budget / 2**30:.1f} GiB by example {count} of {part}. "
        f"Set dataset.max_samples below {count}."
    )

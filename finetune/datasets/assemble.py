"""Assembly of a dataset from the rows of any source: hold splits out, choose rows, read files."""

import errno
import logging
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.bad_samples import BadSample, none_left, unreadable
from finetune.datasets.dataset import Dataset, Found, Split, make_dataset, split_line
from finetune.datasets.images.cleaning import clean_images, repeated, require_left, settle
from finetune.datasets.memory import memory_budget, num_bytes, too_large
from finetune.datasets.names import SPLITS, look_alikes
from finetune.datasets.splits import chosen_rows, held_out
from finetune.errors import ConfigError

log = logging.getLogger(__name__)

HELD_OUT = 0.1  # share of the examples for each split that the source does not have
_MANY_FILES = 10_000


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a split before any is dropped or read.

    Args:
        inputs: (n,) object array of file paths, encoded images or texts; or an array of numbers.
        labels: Labels as in `Split`.
        sources: (n,) object array of str, as in `Split`.
        bad: Bad samples, which are not among the rows.
    """

    inputs: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    bad: Sequence[BadSample] = ()

    def take(self, rows: np.ndarray) -> "Rows":
        """Returns the chosen rows."""
        return replace(
            self, inputs=self.inputs[rows], labels=self.labels[rows], sources=self.sources[rows]
        )


def object_array(values: Sequence[Any]) -> np.ndarray:
    """Returns an (n,) object array. NumPy itself would convert nested values to arrays."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def row_names(where: str, number: int) -> np.ndarray:
    """Returns the sources of the rows of a file or array, numbered from 1."""
    return object_array([f"{where}:{row}" for row in range(1, number + 1)])


def require_rows(name: str, counts: Mapping[str, int]) -> None:
    """Refuses splits without rows.

    Raises:
        ConfigError: If a split is empty; it names the split.
    """
    for part, count in counts.items():
        if count == 0:
            raise ConfigError(
                f"dataset.path must have at least one example in each split. Received: {name}, "
                f"where {part} is empty. Add examples, or remove {part} to have it taken from train."
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
    skip: bool = False,
    found: Found,
) -> Dataset:
    """Holds out missing splits, drops the rows that are not kept, and reads the others.

    Bad samples are left out last, so that they do not change which rows are held out.

    Args:
        source: Source of the rows: image_folder, table or arrays; part of the fingerprint.
        name: Name of the dataset.
        classes: Label names in the order of the indices.
        parts: Rows of train, and of validation and test if the source has them.
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
        max_samples: Maximum number of rows to keep of each split, stratified; None keeps all.
        train_per_class: Number of training rows to keep of each class; None keeps all.
        seed: Seed of the rows that are held out and kept, 0..2**32-1.
        skip: Whether to leave bad samples out instead of refusing them. Every image is then decoded
            once.
        found: What the source holds apart from the rows.

    Raises:
        ConfigError: If a split is empty, there are too few examples to hold some out, they do not
            fit into memory, or samples are bad.
    """
    bad = [sample for rows in parts.values() for sample in rows.bad]
    for part, rows in parts.items():
        if rows.bad and not len(rows.labels):
            raise none_left(part, len(rows.bad), bad)
    require_rows(name, {part: len(rows.labels) for part, rows in parts.items()})
    whole = _hold_out(parts, seed)
    budget = memory_budget()
    done: dict[str, Split] = {}
    labels: dict[str, np.ndarray] = {}
    for part in SPLITS:
        per_class = train_per_class if part == "train" else None
        if max_samples is not None and whole[part].labels.ndim == 2:
            log.info("%s: at most %d examples, not stratified, seed %d", part, max_samples, seed)
        rows = chosen_rows(whole[part].labels, per_class, max_samples, seed, classes)
        chosen = whole[part].take(rows)
        split, damaged = _read_split(part, chosen, kind, budget, name, skip)
        bad += damaged
        done[part], labels[part] = split, chosen.labels
        budget -= num_bytes(split.examples)
    settle(bad, done, skip, found.root)
    require_left(labels, done, classes, bad)
    used = {part: found.used.get(part) or _share(found, whole[part], seed) for part in SPLITS}
    found = replace(found, used=used)
    return finish(name, [source, kind], classes, done, kind, bad, found)


def _share(found: Found, rows: Rows, seed: int) -> str:
    """Returns the description of a split that was held out of train."""
    how = "stratified" if rows.labels.ndim == 1 else "not stratified"
    return f"a tenth of {found.used['train']} ({how}, seed {seed})"


@dataclass(frozen=True, eq=False)
class Part:
    """A single split of a source.

    Args:
        name: Name of the dataset.
        split: Name of the split: train, validation or test; None if the source has no splits and
            this is all of it.
        classes: Label names of this split alone, in the order of the indices.
        rows: The rows, bad samples included.
        kind: Kind of the examples: ``image`` or ``text``.
        found: What the source holds apart from the rows.
    """

    name: str
    split: str | None
    classes: Sequence[str]
    rows: Rows
    kind: str
    found: Found


def assemble_part(
    part: Part, *, max_samples: int | None, seed: int, skip: bool
) -> tuple[Split, list[BadSample]]:
    """Reads a single split, otherwise like `assemble`.

    Args:
        part: The split.
        max_samples: Maximum number of rows to keep, stratified; None keeps all.
        seed: Seed of the rows that are kept.
        skip: Whether to leave bad samples out instead of refusing them.

    Returns:
        The split without its bad samples, and the bad samples.
    """
    where, rows, bad = part.split or "all", part.rows, list(part.rows.bad)
    if not len(rows.labels):
        if bad:
            raise none_left(where, len(bad), bad)
        require_rows(part.name, {where: 0})
    rows = rows.take(chosen_rows(rows.labels, None, max_samples, seed, part.classes))
    split, damaged = _read_split(where, rows, part.kind, memory_budget(), part.name, skip)
    bad += damaged
    settle(bad, {where: split}, skip, part.found.root)
    if not split.num_examples:
        raise none_left(where, len(rows.labels), bad, part.found.root)
    return split, bad


def finish(
    name: str,
    header: Sequence[Any],
    classes: Sequence[str],
    splits: Mapping[str, Split],
    kind: str,
    bad: Sequence[BadSample],
    found: Found,
) -> Dataset:
    """Makes a dataset of clean splits, and logs what may be a mistake in it.

    Args:
        name: Name of the dataset.
        header: JSON values that belong to the fingerprint.
        classes: Label names in the order of the indices.
        splits: Splits without bad samples.
        kind: Kind of the examples.
        bad: The samples that were left out.
        found: What the source holds apart from the rows.
    """
    dataset = make_dataset(name, header, classes, splits, kind)
    twice = repeated(dataset.splits)
    for where, count in twice.items():
        log.warning("%d samples occur in both %s: metrics look better than they are", count, where)
    if found.ignored:
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(found.ignored.items()))
        log.warning("ignored, because they are not examples: %s", what)
    for note in found.notes:
        log.warning("%s", note)
    for one, other in look_alikes(dataset.classes):
        log.warning("classes that look alike: %s, %s", ascii(one), ascii(other))
    dataset = replace(
        dataset,
        skipped=tuple(bad),
        repeated=twice,
        ignored=dict(found.ignored),
        used=dict(found.used),
        unused=found.unused,
        notes=found.notes,
    )
    if dataset.used:
        log.info("%s", split_line(dataset.used, dataset.unused))
    return dataset


def _hold_out(parts: Mapping[str, Rows], seed: int) -> dict[str, Rows]:
    """Takes the missing splits from the training rows."""
    done = dict(parts)
    number = round(HELD_OUT * len(parts["train"].labels))
    for part in SPLITS:
        if part in done:
            continue
        train = done["train"]
        rows = held_out(train.labels, number, seed) if number else np.arange(0)
        if not 0 < len(rows) < len(train.labels):
            raise ConfigError(
                f"dataset.path must have a split {part}, or more examples. Received: "
                f"{len(train.labels)} examples{_of_classes(train.labels)}, too few to hold out a "
                f"tenth as {part}. Add a split {part}, or check the labels."
            )
        done[part] = train.take(rows)
        done["train"] = train.take(np.setdiff1d(np.arange(len(train.labels)), rows))
        how = "stratified" if train.labels.ndim == 1 else "not stratified"
        log.info("no split %s: took %d training examples, %s, seed %d", part, len(rows), how, seed)
    return done


def _of_classes(labels: np.ndarray) -> str:
    return f" of {len(np.unique(labels))} classes" if labels.ndim == 1 else ""


def _read_split(
    part: str, rows: Rows, kind: str, budget: int, name: str, skip: bool
) -> tuple[Split, list[BadSample]]:
    """Returns a split with its rows read and clean, and its bad samples."""
    examples, unread = _read(part, rows.inputs, budget, name)
    split = Split(part, examples, rows.labels, sources=rows.sources)
    if kind != "image" or examples.dtype != object:
        return split, []
    split, bad = clean_images(split, unread, check=skip, budget=budget, name=name)
    tried = {rows.sources[row]: str(rows.inputs[row]) for row in unread}
    return split, [replace(sample, tried=tried.get(sample.source, "")) for sample in bad]


def _read(
    part: str, inputs: np.ndarray, budget: int, name: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Returns `inputs` with files read in place of their paths, and why files are unreadable."""
    if inputs.dtype != object:
        if inputs.nbytes > budget:
            raise too_large(name, part, 1 + budget * len(inputs) // inputs.nbytes, budget)
        return inputs, {}
    if len(inputs) > _MANY_FILES and isinstance(inputs[0], Path):
        log.info("%s: reading %d files", part, len(inputs))
    examples = np.empty(len(inputs), object)
    unread: dict[int, str] = {}
    size = 0
    for row, value in enumerate(inputs):
        if isinstance(value, Path):
            try:
                status = value.stat()
                if not stat.S_ISREG(status.st_mode):  # reading a pipe would not end
                    raise OSError(errno.EINVAL, "not a regular file")
                if size + status.st_size > budget:
                    raise too_large(name, part, row + 1, budget)
                value = value.read_bytes()
            except (OSError, ValueError) as error:
                value, unread[row] = b"", unreadable(error)
        examples[row] = value
        size += len(value)
        if size > budget:
            raise too_large(name, part, row + 1, budget)
    return examples, unread

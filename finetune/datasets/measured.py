"""The examples that a trained model is measured on, with their labels in the order of its outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from finetune.config.schema import FILE_DATASETS, DatasetConfig
from finetune.datasets.assemble import Part, assemble_part
from finetune.datasets.dataset import Split, split_line
from finetune.datasets.load import load_dataset
from finetune.datasets.names import plain
from finetune.datasets.sources.arrays import arrays_part
from finetune.datasets.sources.folder import folder_part
from finetune.datasets.sources.table import table_part
from finetune.errors import ConfigError, nearest, told_apart

_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Measured:
    """A split to measure a model on.

    Args:
        dataset: its name.
        split: train, validation or test; None: all that there is.
        kind: of the examples: ``image`` or ``text``.
        examples: labels are indices of the model's outputs, or 0 and 1 for each of them.
        fingerprint: of the whole dataset, where it was read as in training; else None.
        num_bad: samples that were left out.
        notices: what a user should know of the data, one line each.
    """

    dataset: str
    split: str | None
    kind: str
    examples: Split
    fingerprint: str | None = None
    num_bad: int = 0
    notices: tuple[str, ...] = ()


def load_measured(
    given: DatasetConfig,
    seed: int,
    classes: Sequence[str],
    multi_label: bool,
    split: str | None,
    elsewhere: bool,
) -> Measured:
    """Loads the split of a dataset, and matches its labels with a model's by their names.

    Args:
        given: the dataset's config, checked.
        seed: of the run: it chose what was held out, and the rows that were kept.
        classes: label names in the order of the model's outputs.
        multi_label: whether the model gives an example several labels.
        split: train, validation or test, held out as in training where there is none; None: test,
            and of files from elsewhere that have no splits all.
        elsewhere: whether the files are others than those of the run.

    Raises:
        ConfigError: for data that cannot be read, or labels that the model does not know.
    """
    if elsewhere and split is None and given.name in FILE_DATASETS:
        part = _part_of(given)
        examples, bad = assemble_part(
            part, max_samples=given.max_samples, seed=seed, skip=given.on_bad_sample == "skip"
        )
        line = split_line(part.found.used, part.found.unused)
        warnings = [] if multi_label else [f"warning: {note}" for note in part.found.notes]
        found = Measured(
            part.name,
            part.split,
            part.kind,
            examples,
            num_bad=len(bad),
            notices=(line, *warnings),
        )
        own = part.classes
    else:
        split = split or "test"
        dataset = load_dataset(given, seed)
        examples = dataset.splits[split]
        num_bad = sum(sample.split == split for sample in dataset.skipped)
        used = {split: dataset.used[split]} if dataset.used else {}
        found = Measured(
            dataset.name,
            split,
            dataset.kind,
            examples,
            dataset.fingerprint,
            num_bad,
            (split_line(used, dataset.unused),) if used else (),
        )
        own = dataset.classes
    labels = matched(found.examples, own, classes, multi_label)
    return replace(found, examples=replace(found.examples, labels=labels))


def _part_of(given: DatasetConfig) -> Part:
    path = str(given.path)
    readers: dict[str, Callable[[], Part]] = {
        "image_folder": lambda: folder_part(path, "test"),
        "arrays": lambda: arrays_part(path, "test"),
        "table": lambda: table_part(
            path,
            "test",
            input_column=given.columns.input,
            label_column=given.columns.label,
            label_separator=given.label_separator,
            skip=given.on_bad_sample == "skip",
        ),
    }
    return readers[given.name]()


def matched(
    examples: Split, own: Sequence[str], classes: Sequence[str], multi_label: bool
) -> np.ndarray:
    """Returns labels as a model's outputs are ordered, whatever the order and number of the data's.

    Args:
        examples: with labels in the order of `own`.
        own: label names of the data.
        classes: label names of the model.
        multi_label: whether the model gives an example several labels.

    Returns:
        (n,) int64 class indices; (n, classes) uint8 of 0 and 1 where `multi_label`.

    Raises:
        ConfigError: naming the labels that are no class of the model.
    """
    labels = examples.labels
    if labels.ndim == 2 and not multi_label:
        raise ConfigError(
            "dataset must hold one label an example: the model gives one. Received: several. Use "
            "data with one label, or a model that was trained with several."
        )
    index = {plain(name): place for place, name in enumerate(classes)}
    own = [plain(name) for name in own]
    unknown = {
        name: rows
        for place, name in enumerate(own)
        if name not in index and len(rows := _rows_with(labels, place))
    }
    if unknown:
        raise ConfigError(_unknown(unknown, classes, examples))
    outputs = np.asarray([index.get(name, -1) for name in own], np.int64)
    if not multi_label:
        return outputs[labels]
    done = np.zeros((len(labels), len(classes)), np.uint8)
    for place in np.flatnonzero(outputs >= 0).tolist():
        done[_rows_with(labels, place), outputs[place]] = 1
    return done


def _rows_with(labels: np.ndarray, place: int) -> np.ndarray:
    """Returns the rows that have a label, by its place among the data's own."""
    return np.flatnonzero(labels[:, place] if labels.ndim == 2 else labels == place)


def _unknown(unknown: Mapping[str, np.ndarray], classes: Sequence[str], examples: Split) -> str:
    def described(name: str) -> str:
        rows = unknown[name]
        close = nearest(name, classes)
        hint = f"; did you mean {told_apart(close, name)}?" if close is not None else ""
        return f"{name} ({len(rows)} examples, the first is {examples.source(int(rows[0]))}{hint})"

    more = ", …" if len(unknown) > _SHOWN else ""
    return (
        "dataset must have labels that are classes of the model. Received: "
        f"{', '.join(map(described, islice(unknown, _SHOWN)))}{more}. The model's are "
        f"{', '.join(classes[:_SHOWN])}{', …' if len(classes) > _SHOWN else ''}. Rename these "
        "labels, or leave their examples out."
    )

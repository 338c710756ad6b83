"""The examples that a trained model is evaluated on, with labels in the order of its outputs."""

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
    """A split to evaluate a model on.

    Args:
        dataset: Name of the dataset.
        split: Name of the split: train, validation or test; None if it is the whole dataset.
        kind: Kind of the examples: ``image`` or ``text``.
        examples: The examples, with indices of the model's outputs, or 0 and 1 for each output, as
            labels.
        fingerprint: Fingerprint of the whole dataset if it was read as for training; else None.
        num_bad: Number of samples that were left out.
        notices: Remarks on the data for the user, one line each.
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
    """Loads a split of a dataset and matches its labels with those of a model by name.

    Args:
        given: The validated config of the dataset.
        seed: Seed of the run, which chose the rows that were held out and kept.
        classes: Label names in the order of the model's outputs.
        multi_label: Whether the model predicts any number of labels per example.
        split: Split to load: train, validation or test, held out as in training if the dataset does
            not have it. None loads test, or everything from other files without splits.
        elsewhere: Whether the files are not those of the run.

    Raises:
        ConfigError: If the data cannot be read, or have labels that the model does not know.
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
    """Returns labels in the order of a model's outputs instead of the data's own order.

    Args:
        examples: Examples with labels in the order of `own`.
        own: Label names of the data.
        classes: Label names of the model.
        multi_label: Whether the model predicts any number of labels per example.

    Returns:
        (n,) int64 class indices; (n, classes) uint8 of 0 and 1 if `multi_label`.

    Raises:
        ConfigError: If there are labels that are not classes of the model; it names them.
    """
    labels = examples.labels
    if labels.ndim == 2 and not multi_label:
        raise ConfigError(
            "dataset must have one label per example, as the model predicts one. Received: several. "
            "Use data with one label per example, or a model that was trained on several."
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
    """Returns the rows that have a label, given its position among the labels of the data."""
    return np.flatnonzero(labels[:, place] if labels.ndim == 2 else labels == place)


def _unknown(unknown: Mapping[str, np.ndarray], classes: Sequence[str], examples: Split) -> str:
    def described(name: str) -> str:
        rows = unknown[name]
        close = nearest(name, classes)
        hint = f"; did you mean {told_apart(close, name)}?" if close is not None else ""
        return f"{name} ({len(rows)} examples, the first is {examples.source(int(rows[0]))}{hint})"

    more = ", …" if len(unknown) > _SHOWN else ""
    return (
        "dataset must have only labels that are classes of the model. Received: "
        f"{', '.join(map(described, islice(unknown, _SHOWN)))}{more}. The model has "
        f"{', '.join(classes[:_SHOWN])}{', …' if len(classes) > _SHOWN else ''}. Rename these "
        "labels, or leave their examples out."
    )

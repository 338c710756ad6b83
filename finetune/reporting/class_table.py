"""The number of examples of each class in each split, as a table with bars."""

from dataclasses import dataclass

from finetune.record.schema import DatasetRecord


@dataclass(frozen=True)
class ClassRow:
    """One class: its number of examples in each split, and the lengths of the bars, 0..1."""

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class ClassTable:
    """Class counts in the order of the classes.

    Args:
        splits: Names of the splits.
        rows: One row per class.
        words: Sentence about the balance of the classes.
        folded: Whether the table is so long that it starts collapsed.
    """

    splits: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    words: str
    folded: bool


def class_table(dataset: DatasetRecord, many: int) -> ClassTable | None:
    """Returns the table; None for a record without counts.

    The most frequent class of each split has a full bar, so that the distributions of large and
    small splits can be compared.

    Args:
        dataset: Dataset of a record.
        many: Number of classes above which the table starts collapsed.
    """
    counts = {split: numbers for split, numbers in dataset.class_counts.items() if any(numbers)}
    if "train" not in counts:
        return None
    columns = list(counts.values())
    rows = tuple(
        ClassRow(
            name,
            tuple(column[index] for column in columns),
            tuple(round(column[index] / max(column), 3) for column in columns),
        )
        for index, name in enumerate(dataset.classes)
    )
    return ClassTable(tuple(counts), rows, _words(dataset, counts["train"]), len(rows) > many)


def _words(dataset: DatasetRecord, train: list[int]) -> str:
    most, fewest = max(train), min(train)
    names = dataset.classes
    if most == fewest:
        text = f"Each of the {len(names)} classes has {most:,} training examples."
    else:
        text = (
            f"The {len(names)} classes have {fewest:,} ({names[train.index(fewest)]}) to {most:,} "
            f"({names[train.index(most)]}) training examples"
            + (f", a ratio of {most / fewest:.3g} to 1." if fewest else ".")
        )
    return text + (" An example counts for each of its classes." if dataset.multi_label else "")

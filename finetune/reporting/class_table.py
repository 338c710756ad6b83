"""How many examples of each class are in each split, as a table with bars."""

from dataclasses import dataclass

from finetune.record.schema import DatasetRecord


@dataclass(frozen=True)
class ClassRow:
    """One class: the examples in each split, and the lengths of their bars, 0..1."""

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class ClassTable:
    """The classes in their order.

    Args:
        splits: their names.
        rows: one for each class.
        words: what a reader looks for first.
        folded: whether the table is too long to be open from the start.
    """

    splits: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    words: str
    folded: bool


def class_table(dataset: DatasetRecord, many: int) -> ClassTable | None:
    """Returns the table; None for a record without counts.

    The longest bar of a split is that of its most frequent class, so that the shapes of large and
    small splits can be compared.

    Args:
        dataset: of a record.
        many: classes from which on the table is folded.
    """
    counts = {split: each for split, each in dataset.class_counts.items() if any(each)}
    if "train" not in counts:
        return None
    columns = list(counts.values())
    rows = tuple(
        ClassRow(
            name,
            tuple(each[index] for each in columns),
            tuple(round(each[index] / max(each), 3) for each in columns),
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
            + (f", {most / fewest:.3g} to 1." if fewest else ": some class has none.")
        )
    return text + (" An example counts in each of its classes." if dataset.multi_label else "")

"""Class names to indices, and what errors about rows have in common."""

from collections.abc import Iterable, Sequence

import numpy as np

from finetune.errors import ConfigError, unknown_name

_SHOWN = 20


def listed(items: Iterable[object]) -> str:
    """Returns at most 20 of `items`, and how many there are.

    >>> listed([3, 5])
    '3, 5 (2 in all)'
    """
    every = [str(item) for item in items]
    more = ", …" if len(every) > _SHOWN else ""
    return f"{', '.join(every[:_SHOWN])}{more} ({len(every)} in all)"


Counted = tuple[str, Sequence[int]] | None
"""What the rows are called, and the number of each; None: rows from 1."""


def indices(
    where: str, names: Sequence[str], classes: Sequence[str], counted: Counted = None
) -> np.ndarray:
    """Returns the class index of each name, (n,) int64.

    Args:
        where: what the error names, e.g. ``dataset.path: column label of test.csv``.
        names: (n,) label names.
        classes: label names in the order of the indices.
        counted: how the error numbers rows.

    Raises:
        ConfigError: a name that is no class.
    """
    _require_known(where, [(name,) for name in names], classes, counted)
    index = {name: row for row, name in enumerate(classes)}
    return np.asarray([index[name] for name in names], np.int64)


def multi_hot(
    where: str, names: Sequence[Sequence[str]], classes: Sequence[str], counted: Counted = None
) -> np.ndarray:
    """Returns which classes each row has, (n, classes) uint8 of 0 and 1; as `indices` else."""
    _require_known(where, names, classes, counted)
    index = {name: row for row, name in enumerate(classes)}
    hot = np.zeros((len(names), len(classes)), np.uint8)
    for row, labels in enumerate(names):
        hot[row, [index[name] for name in labels]] = 1
    return hot


def is_one_hot(labels: np.ndarray) -> bool:
    """Returns whether each row of an array of 0 and 1 has exactly one 1."""
    return labels.ndim == 2 and bool((labels.sum(axis=1) == 1).all())


def _require_known(
    where: str, names: Sequence[Sequence[str]], classes: Sequence[str], counted: Counted
) -> None:
    unit, numbers = counted or ("rows", range(1, 1 + len(names)))
    known = set(classes)
    unknown: dict[str, list[int]] = {}
    for row, labels in zip(numbers, names, strict=True):
        for name in labels:
            if name not in known:
                unknown.setdefault(name, []).append(row)
    bad = {number for rows in unknown.values() for number in rows}
    if len(bad) == len(names) > 1 and len(unknown) > 1:
        shown = listed(unknown)
        raise ConfigError(
            f"{where} must hold classes of train. Received: others in each of its {len(names):,} "
            f"{unit}: {shown}. Valid: {listed(classes)}. Rename these labels, or check the column."
        )
    if unknown:
        raise ConfigError(
            unknown_name(f"{where} ({unit} {listed(rows)})", "a class of train", name, classes)
            for name, rows in list(unknown.items())[:_SHOWN]
        )

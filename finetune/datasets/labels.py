"""Conversion of class names to indices, and the errors about unknown names."""

from collections.abc import Iterable, Sequence

import numpy as np

from finetune.errors import ConfigError, unknown_name

_SHOWN = 20


def listed(items: Iterable[object]) -> str:
    """Returns at most 20 of `items`, and their total number.

    >>> listed([3, 5])
    '3, 5 (2 in all)'
    """
    every = [str(item) for item in items]
    more = ", …" if len(every) > _SHOWN else ""
    return f"{', '.join(every[:_SHOWN])}{more} ({len(every)} in all)"


Counted = tuple[str, Sequence[int]] | None
"""The unit that rows are counted in, and the number of each row; None counts rows from 1."""


def indices(
    where: str, names: Sequence[str], classes: Sequence[str], counted: Counted = None
) -> np.ndarray:
    """Returns the class index of each name, (n,) int64.

    Args:
        where: Location for the error message, e.g. ``dataset.path: column label of test.csv``.
        names: (n,) label names.
        classes: Label names in the order of the indices.
        counted: Unit and numbers of the rows for the error message.

    Raises:
        ConfigError: If a name is not a class.
    """
    _require_known(where, [(name,) for name in names], classes, counted)
    index = {name: row for row, name in enumerate(classes)}
    return np.asarray([index[name] for name in names], np.int64)


def multi_hot(
    where: str, names: Sequence[Sequence[str]], classes: Sequence[str], counted: Counted = None
) -> np.ndarray:
    """Returns the classes of each row, (n, classes) uint8 of 0 and 1; otherwise as `indices`."""
    _require_known(where, names, classes, counted)
    index = {name: row for row, name in enumerate(classes)}
    hot = np.zeros((len(names), len(classes)), np.uint8)
    for row, labels in enumerate(names):
        hot[row, [index[name] for name in labels]] = 1
    return hot


def is_one_hot(labels: np.ndarray) -> bool:
    """Returns whether each row of an array of 0 and 1 contains exactly one 1."""
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
            f"{where} must contain classes of train. Received: other names in all {len(names):,} "
            f"{unit}: {shown}. Valid: {listed(classes)}. Rename the labels, or check the column."
        )
    if unknown:
        raise ConfigError(
            unknown_name(f"{where} ({unit} {listed(rows)})", "a class of train", name, classes)
            for name, rows in list(unknown.items())[:_SHOWN]
        )

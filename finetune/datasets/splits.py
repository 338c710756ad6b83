"""The choice of the rows that a split keeps: pure functions of labels and a seed.

Labels are (n,) class indices, or (n, classes) of 0 and 1 for multi-label data. Multi-label rows are
drawn at random and not stratified, because a row would count for each of its classes.
"""

from collections.abc import Sequence

import numpy as np

from finetune.errors import ConfigError


def chosen_rows(
    labels: np.ndarray,
    per_class: int | None,
    max_samples: int | None,
    seed: int,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """Returns the sorted rows that a number per class and a limit leave; None sets no limit."""
    rows = np.arange(len(labels))
    if per_class is not None:
        rows = few_shot(labels, per_class, seed, classes)
    if max_samples is not None:
        rows = rows[limit(labels[rows], max_samples, seed)]
    return rows


def few_shot(
    labels: np.ndarray, per_class: int, seed: int, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Chooses `per_class` rows of every class that occurs.

    Args:
        labels: (n,) class indices.
        per_class: Number of rows to keep of each class, at least 1.
        seed: Seed of the choice, 0..2**32-1.
        classes: Label names for the error message; None shows the indices.

    Returns:
        Sorted row indices.

    Raises:
        ConfigError: If a class has fewer rows, or the labels are multi-label.
    """
    if labels.ndim == 2:
        raise ConfigError(
            "dataset.train_per_class must be null where an example may have several labels. "
            f"Received: {per_class}. Use dataset.max_samples."
        )
    found, counts = np.unique(labels, return_counts=True)
    problems = [
        f"dataset.train_per_class must be at most {count} (class "
        f"{index if classes is None else classes[index]} has {count} training examples). "
        f"Received: {per_class}. Use {counts.min()} or fewer."
        for index, count in zip(found.tolist(), counts.tolist(), strict=True)
        if count < per_class
    ]
    if problems:
        raise ConfigError(problems)
    return _choose(labels, dict.fromkeys(found.tolist(), per_class), seed)


def limit(labels: np.ndarray, max_samples: int, seed: int) -> np.ndarray:
    """Chooses at most `max_samples` rows in proportion to the classes (largest remainders first).

    Args:
        labels: (n,) class indices, or (n, classes) of 0 and 1.
        max_samples: Number of rows to keep, at least 1.
        seed: Seed of the choice, 0..2**32-1.

    Returns:
        Sorted row indices; all rows if there are at most `max_samples`.
    """
    if len(labels) <= max_samples:
        return np.arange(len(labels))
    if labels.ndim == 2:
        generator = np.random.Generator(np.random.PCG64(seed))
        return np.sort(generator.permutation(len(labels))[:max_samples])
    classes, counts = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(counts * max_samples, len(labels))
    missing = max_samples - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return _choose(labels, dict(zip(classes.tolist(), shares.tolist(), strict=True)), seed)


def held_out(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Chooses `number` rows to hold out of training, in proportion to the classes.

    Args:
        labels: Labels as in `limit`.
        number: Number of rows to choose, at least 1. Fewer are chosen if too many classes have a
            single row.
        seed: Seed of the choice, 0..2**32-1.

    Returns:
        Sorted row indices. The only row of a class is never among them.
    """
    rows = np.arange(len(labels))
    if labels.ndim == 1:
        rows = rows[np.bincount(labels)[labels] > 1]
    return rows[limit(labels[rows], number, seed)] if len(rows) else rows


def _choose(labels: np.ndarray, wanted: dict[int, int], seed: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(seed))
    kept = [generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in wanted.items()]
    return np.sort(np.concatenate(kept))

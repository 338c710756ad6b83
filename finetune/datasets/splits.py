"""Which rows of a split are kept: pure functions of labels and a seed."""

import numpy as np

from finetune.errors import ConfigError


def few_shot(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Chooses `per_class` rows of every class that occurs.

    Args:
        labels: (n,) class indices.
        per_class: rows to keep of each class, at least 1.
        seed: 0..2**32-1.

    Returns:
        Sorted row indices.

    Raises:
        ConfigError: a class has fewer rows.
    """
    classes, counts = np.unique(labels, return_counts=True)
    problems = [
        f"dataset.train_per_class must be at most {count} (class {name} has {count} training "
        f"images). Received: {per_class}. Use {counts.min()} or fewer."
        for name, count in zip(classes, counts, strict=True)
        if count < per_class
    ]
    if problems:
        raise ConfigError(problems)
    return _choose(labels, dict.fromkeys(classes.tolist(), per_class), seed)


def limit(labels: np.ndarray, max_samples: int, seed: int) -> np.ndarray:
    """Chooses at most `max_samples` rows, each class in its share (largest remainders first).

    Args:
        labels: (n,) class indices.
        max_samples: rows to keep, at least 1.
        seed: 0..2**32-1.

    Returns:
        Sorted row indices; all of them where there are no more than `max_samples`.
    """
    if len(labels) <= max_samples:
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(counts * max_samples, len(labels))
    missing = max_samples - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return _choose(labels, dict(zip(classes.tolist(), shares.tolist(), strict=True)), seed)


def _choose(labels: np.ndarray, wanted: dict[int, int], seed: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(seed))
    kept = [generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in wanted.items()]
    return np.sort(np.concatenate(kept))

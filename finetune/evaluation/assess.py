"""Metrics of the test split, with thumbnails of the mistakes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.datasets.dataset import Dataset
from finetune.evaluation.metrics import Report, report
from finetune.evaluation.named import with_named
from finetune.evaluation.previews import illustrated
from finetune.tasks.objective import Objective


def assess(
    dataset: Dataset,
    objective: Objective,
    directory: Path | None,
    metrics: Sequence[str],
    outputs: np.ndarray,
) -> Report:
    """Compares outputs with the labels of the test split.

    Args:
        dataset: Holds the test split.
        objective: What the model was trained for.
        directory: Run directory, where thumbnails of mistakes are written; None writes none.
        metrics: Names of more metrics.
        outputs: (rows, classes) outputs of the model, in stored order from the first row.
    """
    split = dataset.splits["test"]
    labels = split.labels[: len(outputs)]
    found = with_named(
        report(outputs, labels, dataset.classes, objective), metrics, outputs, labels, objective
    )
    if directory is None:
        return found
    mistakes = illustrated(found.details.mistakes, found.mistaken, split, directory)
    return replace(found, details=replace(found.details, mistakes=mistakes))

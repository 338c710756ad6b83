"""How good what a model says of the test split is, with pictures of its mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.datasets.dataset import Dataset
from finetune.evaluation.metrics import Report, report
from finetune.evaluation.previews import illustrated
from finetune.tasks.objective import Objective


def assess(
    dataset: Dataset, objective: Objective, directory: Path | None, outputs: np.ndarray
) -> Report:
    """Compares outputs with the labels of the test split.

    Args:
        dataset: Holds the test split.
        objective: What the model was trained for.
        directory: Run directory, where thumbnails of mistakes are written; None writes none.
        outputs: (rows, classes) outputs of the model, in stored order from the first row.
    """
    split = dataset.splits["test"]
    found = report(outputs, split.labels[: len(outputs)], dataset.classes, objective)
    if directory is None:
        return found
    mistakes = illustrated(found.details.mistakes, found.mistaken, split, directory)
    return replace(found, details=replace(found.details, mistakes=mistakes))

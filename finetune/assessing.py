"""How good what a model says of the test split is, with pictures of its mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.building import Run
from finetune.datasets.previews import illustrated
from finetune.training.evaluation import Report, report


def assess(run: Run, directory: Path | None, outputs: np.ndarray) -> Report:
    """Compares outputs, in stored order from the first row, with the labels of the test split.

    Thumbnails of mistakes are written below the run directory, where there is one.
    """
    dataset = run.built.dataset
    split = dataset.splits["test"]
    found = report(
        outputs, split.labels[: len(outputs)], dataset.classes, run.built.programs.objective
    )
    if directory is None:
        return found
    mistakes = illustrated(found.details.mistakes, found.mistaken, split, directory)
    return replace(found, details=replace(found.details, mistakes=mistakes))

"""Finds the examples of an evaluation that the model was trained on."""

import csv
from pathlib import Path

import numpy as np

from finetune.datasets.dataset import Split, row_digests
from finetune.record.files import SPLITS_COLUMNS, SPLITS_FILE


def seen_in_training(run_directory: Path, split: Split) -> int | None:
    """Returns the number of examples whose content is also in the training split of a run.

    Args:
        run_directory: Directory of the run.
        split: Split to evaluate.

    Returns:
        Number of such examples; None if the run did not record its training examples.
    """
    try:
        with (run_directory / SPLITS_FILE).open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != list(SPLITS_COLUMNS):
                return None
            trained = [int(digest, 16) for part, _, digest in rows if part == "train"]
    except (OSError, ValueError, csv.Error):
        return None
    own = row_digests(split) if split.digests is None else split.digests
    return int(np.isin(own, np.asarray(trained, np.uint64)).sum())


def said_of(seen: int | None, examples: int) -> str | None:
    """Returns a warning about examples that the model was trained on; None if there are none.

    Args:
        seen: Result of `seen_in_training`.
        examples: Number of examples in the evaluation.
    """
    if not seen:
        return None
    which = f"all {examples:,}" if seen == examples else f"{seen:,} of the {examples:,}"
    return (
        f"the model was trained on {which} examples of this evaluation: its metrics on new examples "
        "are likely to be worse"
    )

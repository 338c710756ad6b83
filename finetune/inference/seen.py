"""Whether a model is measured on examples that it was trained on."""

import csv
from pathlib import Path

import numpy as np

from finetune.datasets.dataset import Split, row_digests
from finetune.record.files import SPLITS_COLUMNS, SPLITS_FILE


def seen_in_training(run_directory: Path, split: Split) -> int | None:
    """Returns how many examples are among those that a run was trained on, by their content.

    Args:
        run_directory: of the run.
        split: what the model is measured on.

    Returns:
        Their number; None where the run has not written down what it was trained on.
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
    """Returns what to say of examples that a model was trained on; None: nothing.

    Args:
        seen: as of `seen_in_training`.
        examples: how many are measured.
    """
    if not seen:
        return None
    which = f"all {examples:,}" if seen == examples else f"{seen:,} of the {examples:,}"
    return (
        f"the model was trained on {which} examples that it is measured on here: its metrics on new "
        "ones are likely to be worse"
    )

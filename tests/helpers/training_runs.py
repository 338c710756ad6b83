"""Trains what overrides describe, in this process, as the command line would."""

import time
from collections.abc import Sequence
from pathlib import Path

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.record.schema import RunRecord
from finetune.reporting.terminal.console import make_console
from finetune.runs import run as runs
from finetune.runs.build import Workbench


def train_run(
    directory: Path, overrides: Sequence[str], workbench: Workbench | None = None
) -> RunRecord:
    """Trains a run in a directory, which is created if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    session = runs.Session(directory, make_console(quiet=True), time.time(), tuple(overrides))
    return runs.train(read(compose_config(list(overrides))), session, workbench)

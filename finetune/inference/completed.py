"""Reads the record of a completed run and verifies that its model is unchanged."""

import os
from pathlib import Path

from finetune.config.saved import where_to_look
from finetune.errors import ConfigError
from finetune.launcher import command
from finetune.record.files import changed_files, read_json
from finetune.record.schema import RunRecord

MODEL = "model"  # folder of a run directory


def kind_of(record: RunRecord) -> str:
    """Returns the kind of examples that a run was trained on: ``image``, ``text`` or ``array``."""
    if record.backbone.own:
        return "array"
    return "text" if "tokenizer" in record.backbone.preprocessing else "image"


def read_completed(run_directory: Path) -> RunRecord:
    """Returns the record of a completed run after checking its model against the record.

    Args:
        run_directory: Directory of the run.

    Raises:
        ConfigError: If the directory does not hold exactly one run, if the run has not completed, or
            if files of the model have changed; the message names them.
    """
    if not os.path.isfile(run_directory / "run.json"):  # pathlib's raises without permission
        raise ConfigError(
            f"RUN_DIR must be the directory of a run, which holds run.json. Received: "
            f"{run_directory}. {where_to_look(run_directory)}"
        )
    record = read_json(run_directory / "run.json")
    resumed = command("resume", run_directory)
    if record.backbone.own:
        resumed = "fit(…, resume=True) of its FineTuner"
    if record.status != "completed":
        raise ConfigError(
            f"RUN_DIR must hold a completed run. Received: {run_directory}, whose run is "
            f"{record.status}. Resume it: {resumed}."
        )
    changed = [path for path in changed_files(run_directory, record) if path.startswith(MODEL)]
    if changed or not record.model_sha256:
        raise ConfigError(
            f"RUN_DIR must hold the model as the run wrote it. Received: {run_directory}, where "
            f"{', '.join(changed) or 'run.json'} is damaged, changed or missing. Rewrite the model "
            f"from the last checkpoint: {resumed}."
        )
    return record

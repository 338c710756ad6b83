"""Whether a directory holds a completed run whose model is as the run wrote it."""

import os
from pathlib import Path

from finetune.config.saved import where_to_look
from finetune.errors import ConfigError
from finetune.launcher import command
from finetune.record.files import changed_files, read_json
from finetune.record.schema import RunRecord

MODEL = "model"  # folder of a run directory


def kind_of(record: RunRecord) -> str:
    """Returns what a run was trained on: ``image``, ``text`` or ``array``."""
    if record.backbone.own:
        return "array"
    return "text" if "tokenizer" in record.backbone.preprocessing else "image"


def read_completed(run_directory: Path) -> RunRecord:
    """Returns the record of a run that has come to its end, once its model has been checked.

    Args:
        run_directory: of the run.

    Raises:
        ConfigError: for a directory of no run or of several, a run that has not come to its end,
            or a model that is not as the run wrote it, file by file.
    """
    if not os.path.isfile(run_directory / "run.json"):  # pathlib's raises where it may not look
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
            f"RUN_DIR must hold a run that is completed. Received: {run_directory}, whose run is "
            f"{record.status}. Go on with it: {resumed}."
        )
    changed = [each for each in changed_files(run_directory, record) if each.startswith(MODEL)]
    if changed or not record.model_sha256:
        raise ConfigError(
            f"RUN_DIR must hold the model as the run wrote it. Received: {run_directory}, where "
            f"{', '.join(changed) or 'run.json'} is damaged, changed or gone. Rewrite the model "
            f"from the last checkpoint: {resumed}."
        )
    return record

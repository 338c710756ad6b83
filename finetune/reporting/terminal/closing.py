"""The closing lines of a run: where its files are, and which commands to try next."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from finetune.launcher import PROGRAM, command
from finetune.printable import printable
from finetune.record.schema import RunRecord

_PLACES = {
    "record": "run.json",
    "metrics": "metrics.csv",
    "model": "model",
    "report": "report.html",
    "pictures": "plots",
    "tensorboard": "tensorboard",
    "checkpoints": "checkpoints",
    "log": "finetune.log",
}
_UNLESS_COMPLETED = ("checkpoints", "log")


def near(path: Path) -> Path:
    """Returns a path relative to the working directory if it is below it."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path


def quoted(path: Path) -> str:
    """Returns a path quoted for a shell, with control characters escaped."""
    return shlex.quote(printable(near(path)))


def places(record: RunRecord, directory: Path) -> Iterator[tuple[str, str]]:
    """Yields the files of a run by name; checkpoints and the log only if the run has not completed.

    Args:
        record: Record of the run.
        directory: Run directory.
    """
    for name, file in _PLACES.items():
        wanted = record.status != "completed" or name not in _UNLESS_COMPLETED
        if wanted and (directory / file).exists():
            yield name, printable(near(directory / file))


def opening_commands(record: RunRecord, directory: Path) -> list[tuple[str, str]]:
    """Returns the commands that open the trackers of a run, with the name of each tracker.

    Args:
        record: Record of the run.
        directory: Run directory.
    """
    settings = record.config.get("trackers") or {}
    if not settings.get("mlflow"):
        return []
    from finetune.reporting.trackers.listener import STATE, Known, read_state
    from finetune.reporting.trackers.mlflow import opening, store

    kept = read_state(directory / STATE).get("MLflow", Known())
    return [("mlflow", opening(kept.where or store(settings.get("mlflow_uri"), directory)))]


def next_commands(record: RunRecord, directory: Path) -> list[str]:
    """Returns two commands that suit the status of an ended run.

    Args:
        record: Record of the run.
        directory: Run directory.
    """
    where = quoted(directory)
    own = record.backbone.own
    if record.status != "completed":
        resume = "fit(…, resume=True)" if own else f"{PROGRAM} resume {where}"
        log = directory / "finetune.log"
        if record.status == "failed" and log.exists():
            return [resume, f"tail {quoted(log)}"]
        return [resume, f"{PROGRAM} report {where}"]
    if own:
        return [f"{PROGRAM} report {where}", f"{PROGRAM} compare {where} OTHER_RUN_DIR"]
    arrays = record.dataset.name == "arrays"
    use = f"{PROGRAM} evaluate {where}" if arrays else f"{PROGRAM} predict {where} FILE…"
    if _is_probe(record):
        return [use, _progressive(record)]
    return [use, f"{PROGRAM} export {where} --format keras"]


def _is_probe(record: RunRecord) -> bool:
    """Returns whether the run has trained nothing but its head."""
    names = {stage["name"] for stage in record.backbone.stages}
    counts = [stage for phase in record.phases for stage in phase.stages if stage["name"] in names]
    return not any(stage["trainable"]["weights"] for stage in counts)


def _progressive(record: RunRecord) -> str:
    """Returns the command of the same run with progressive unfreezing."""
    others = ("schedule", "hydra.")
    kept = [
        override for override in record.overrides if not override.lstrip("+~").startswith(others)
    ]
    words = [*map(printable, kept), "schedule=progressive"]
    return command(*words)

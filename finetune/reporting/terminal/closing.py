"""What a run says at its end: where everything is, and what to try next."""

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
_OF_FAILURES = ("checkpoints", "log")


def near(path: Path) -> Path:
    """Returns a path as it is shown: from here, where it is below here."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path


def quoted(path: Path) -> str:
    """Returns a path as a shell takes it; what a terminal would obey is escaped."""
    return shlex.quote(printable(near(path)))


def places(record: RunRecord, directory: Path) -> Iterator[tuple[str, str]]:
    """Yields what is there of a run, and where; checkpoints and log only where it has not ended.

    Args:
        record: of the run.
        directory: the run directory.
    """
    for name, file in _PLACES.items():
        wanted = record.status != "completed" or name not in _OF_FAILURES
        if wanted and (directory / file).exists():
            yield name, printable(near(directory / file))


def opening_commands(record: RunRecord, directory: Path) -> list[tuple[str, str]]:
    """Returns by name the commands that show what the trackers of a run have kept.

    Args:
        record: of the run.
        directory: the run directory.
    """
    settings = record.config.get("trackers") or {}
    if not settings.get("mlflow"):
        return []
    from finetune.reporting.trackers.listener import STATE, Known, read_state
    from finetune.reporting.trackers.mlflow import opening, store

    kept = read_state(directory / STATE).get("MLflow", Known())
    return [("mlflow", opening(kept.where or store(settings.get("mlflow_uri"), directory)))]


def next_commands(record: RunRecord, directory: Path) -> list[str]:
    """Returns two commands that fit how the run has ended.

    Args:
        record: of the run, at its end.
        directory: the run directory.
    """
    where = quoted(directory)
    own = record.backbone.own
    if record.status != "completed":
        go_on = "fit(…, resume=True)" if own else f"{PROGRAM} resume {where}"
        log = directory / "finetune.log"
        if record.status == "failed" and log.exists():
            return [go_on, f"tail {quoted(log)}"]
        return [go_on, f"{PROGRAM} report {where}"]
    if own:
        return [f"{PROGRAM} report {where}", f"{PROGRAM} compare {where} OTHER_RUN_DIR"]
    arrays = record.dataset.name == "arrays"
    use = f"{PROGRAM} evaluate {where}" if arrays else f"{PROGRAM} predict {where} FILE…"
    if _is_probe(record):
        return [use, _progressive(record)]
    return [use, f"{PROGRAM} export {where} --format keras"]


def _is_probe(record: RunRecord) -> bool:
    """Tells a run that has trained nothing of its backbone."""
    names = {stage["name"] for stage in record.backbone.stages}
    counts = [stage for phase in record.phases for stage in phase.stages if stage["name"] in names]
    return not any(stage["trainable"]["weights"] for stage in counts)


def _progressive(record: RunRecord) -> str:
    """Returns the command of the same run whose backbone is unfrozen stage by stage."""
    others = ("schedule", "hydra.")
    kept = [each for each in record.overrides if not each.lstrip("+~").startswith(others)]
    words = [*map(printable, kept), "schedule=progressive"]
    return command(*words)

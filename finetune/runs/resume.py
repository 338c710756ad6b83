"""Reads how far the run in a directory is, and checks that it can resume as it was started."""

import logging
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune import __version__
from finetune.config.schema import PATHS, Config
from finetune.errors import ConfigError
from finetune.record.files import changed_files, read_json
from finetune.record.schema import FeatureDecision, RunRecord
from finetune.storage.durable import remove_left_over
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import ResumePoint, resume_point

log = logging.getLogger(__name__)
PACKAGES = ("keras", "keras-hub", "tensorflow", "tensorflow-datasets", "hydra-core", "numpy")
MODEL_KEYS = ("backbone.", "head.")  # a checkpoint belongs to one model


@dataclass(frozen=True, eq=False)
class InterruptedRun:
    """A run that has not completed.

    Args:
        checkpoints: Checkpoints of the run directory.
        resume_point: Checkpoint from which it resumes; None: it has not written its first one.
        record: Record of the run so far; None if nothing was written yet.
        changed: What differs from the run that was started, as far as that is allowed.
        moved: Whether data, backbone or features are in another place, or trackers have changed.
    """

    checkpoints: Checkpoints
    resume_point: ResumePoint | None = None
    record: RunRecord | None = None
    changed: tuple[str, ...] = ()
    moved: bool = False

    @property
    def decided(self) -> dict[int, FeatureDecision]:
        """Decisions about storing features, by index of the phase; none if anything has changed."""
        if self.resume_point is None or self.changed:
            return {}
        decisions = self.resume_point.state.decisions
        return {int(index): decision for index, decision in decisions.items()}


def versions() -> dict[str, str]:
    """Returns the versions on which the numbers of a run depend."""
    found = {"python": platform.python_version(), "finetune": __version__}
    return found | {package: version(package) for package in PACKAGES}


def read_run(directory: Path, config: Config, allow_changed: bool) -> InterruptedRun | None:
    """Reads how far the run in a directory is; the caller holds the lock of the directory.

    Args:
        directory: The run directory.
        config: Config with which the run would resume.
        allow_changed: Whether it may differ from the config that the run was started with.

    Returns:
        The run; None if it is completed and all its files are as it wrote them.

    Raises:
        ConfigError: If the run cannot resume; the message names every change that is not allowed.
    """
    remove_left_over(directory)
    record = None
    try:
        record = read_json(directory / "run.json")
    except FileNotFoundError:
        pass  # killed before it was written
    except ConfigError as error:
        log.warning("%s", error)
    if record is not None and record.status == "completed":
        damaged = changed_files(directory, record)
        if not damaged:
            return None
        log.warning("%s are not as the run wrote them: they are rewritten", ", ".join(damaged))
    checkpoints = Checkpoints(directory / "checkpoints")
    point = checkpoints.latest(resume_point)
    if point is not None:
        record = point.state.record
    changed: tuple[str, ...] = ()
    moved = False
    if record is not None:
        given = list(differences(record.config, asdict(config)))
        moved = any(map(_is_path, given))
        changed = (
            *(change for change in given if not _is_path(change)),
            *differences(record.versions, versions(), "versions"),
        )
        require_allowed(directory, changed, allow_changed)
    if point is not None:
        of_model = [change for change in changed if change.startswith(MODEL_KEYS)]
        if of_model:
            raise ConfigError(
                f"{directory} must resume with the model that it was started with, also with "
                f"--allow-changed. Received: {'; '.join(of_model)}. Train another run."
            )
    return InterruptedRun(checkpoints, point, record, changed, moved)


def _is_path(difference: str) -> bool:
    """Returns whether a change is about a place on disk, whose content has a digest, or a tracker."""
    key = difference.partition(" ")[0]
    return key in PATHS or key.partition(".")[0] == "trackers"


def require_allowed(directory: Path, changed: tuple[str, ...], allow_changed: bool) -> None:
    """Refuses to resume with changes, unless they are allowed.

    Raises:
        ConfigError: If there are changes that are not allowed; the message names all of them.
    """
    for change in changed:
        log.warning("the run resumes with a change: %s", change)
    if changed and not allow_changed:
        raise ConfigError(
            f"{directory} must resume with what it was started with. Received: {'; '.join(changed)}. "
            "Undo the change, or allow it: --allow-changed."
        )


def differences(was: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yields every value that differs between two nested mappings, with its path."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in {**was, **now}:
            where = f"{path}.{key}" if path else str(key)
            yield from differences(was.get(key), now.get(key), where)
    elif _plain(was) != _plain(now):
        yield f"{path} was {was}, is {now}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""What a run directory says of the run in it, and whether it can go on as it was begun."""

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
from finetune.training.keeping import Start, start_of

log = logging.getLogger(__name__)
PACKAGES = ("keras", "keras-hub", "tensorflow", "tensorflow-datasets", "hydra-core", "numpy")
FIXED = ("backbone", "head")  # of the config: a checkpoint is of one model


@dataclass(frozen=True, eq=False)
class Earlier:
    """A run that is not at its end.

    Args:
        checkpoints: of the run directory.
        start: what it goes on from; None: it has not come to its first checkpoint.
        record: what it has written down; None where nothing was written yet.
        changed: what is not as it was, where that is allowed.
        moved: whether data, backbone or features are in another place, or other trackers are told.
    """

    checkpoints: Checkpoints
    start: Start | None = None
    record: RunRecord | None = None
    changed: tuple[str, ...] = ()
    moved: bool = False

    @property
    def decided(self) -> dict[int, FeatureDecision]:
        """What was decided about storing features; void where anything has changed."""
        if self.start is None or self.changed:
            return {}
        return {int(index): each for index, each in self.start.state.features.items()}


def versions() -> dict[str, str]:
    """Returns the versions that a run's numbers depend on."""
    found = {"python": platform.python_version(), "finetune": __version__}
    return found | {package: version(package) for package in PACKAGES}


def read_run(directory: Path, config: Config, allow_changed: bool) -> Earlier | None:
    """Reads where the run in a directory has come to; the caller holds the directory.

    Args:
        directory: the run directory.
        config: that the run would go on with.
        allow_changed: whether it may differ from the one the run began with.

    Returns:
        The run; None where it is completed, and everything it wrote down is whole.

    Raises:
        ConfigError: for a run that cannot go on, naming every change that is not allowed.
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
        log.warning("%s are not what the run wrote: they are rewritten", ", ".join(damaged))
    checkpoints = Checkpoints(directory / "checkpoints")
    start = checkpoints.latest(start_of)
    if start is not None:
        record = start.state.record
    changed: tuple[str, ...] = ()
    moved = False
    if record is not None:
        given = list(differences(record.config, asdict(config)))
        moved = any(map(_is_path, given))
        changed = (
            *(each for each in given if not _is_path(each)),
            *differences(record.versions, versions(), "versions"),
        )
        require_allowed(directory, changed, allow_changed)
    if start is not None:
        fixed = [each for each in changed if each.startswith(tuple(f"{k}." for k in FIXED))]
        if fixed:
            raise ConfigError(
                f"{directory} must go on with the model that it was begun with, also with "
                f"--allow-changed. Received: {'; '.join(fixed)}. Train another run."
            )
    return Earlier(checkpoints, start, record, changed, moved)


def _is_path(difference: str) -> bool:
    """Tells a place on disk, where what is there has a digest, and who is told of the run."""
    key = difference.partition(" ")[0]
    return key in PATHS or key.partition(".")[0] == "trackers"


def require_allowed(directory: Path, changed: tuple[str, ...], allow_changed: bool) -> None:
    """Refuses to go on with what is not as it was.

    Raises:
        ConfigError: naming every change, unless all are allowed.
    """
    for each in changed:
        log.warning("the run goes on with a change: %s", each)
    if changed and not allow_changed:
        raise ConfigError(
            f"{directory} must go on with what it was begun with. Received: {'; '.join(changed)}. "
            "Put that back, or let the run go on with it: --allow-changed."
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

"""The one listener that drives every tracker: what is new in the run's record is told to each."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.config.schema import TrackersConfig
from finetune.errors import StorageError
from finetune.printable import printable
from finetune.record.listener import Listener
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord
from finetune.reporting.trackers.protocol import TrackedRun, Tracker
from finetune.reporting.trackers.safe_tracker import SafeTracker
from finetune.reporting.trackers.story import story
from finetune.storage.durable import write_atomically
from finetune.storage.sealed import DAMAGES

log = logging.getLogger(__name__)
STATE = "trackers.json"
EVERY_SECONDS = 5.0
FILES = ("run.json", "metrics.csv", "report.html")
PICTURES = "plots"  # folder of PNG files


@dataclass(frozen=True)
class Known:
    """What is kept of a tracked run for a process that goes on.

    Args:
        known: what the tracker knows the run by; None: it is new.
        told: how many events of each kind the tracker has been told.
        where: the place that the tracker keeps it in; None: none in particular.
    """

    known: str | None = None
    told: dict[str, int] = field(default_factory=dict)
    where: str | None = None


class TrackersListener(Listener):
    """Tells trackers of a run at the start and end of each phase, and every `EVERY_SECONDS`.

    The run directory records what each tracker has been sent: a resumed run continues the same
    tracked runs, sends what its killed process could not send, and sends nothing twice.

    Args:
        trackers: by the names that people know them by, not opened.
        settings: project, name and group.
        directory: the run directory.
        failed: hears one line about a tracker that failed, once each.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        settings: TrackersConfig,
        directory: Path,
        failed: Callable[[str], None],
    ) -> None:
        self._safe_trackers = [SafeTracker(name, each, failed) for name, each in trackers.items()]
        self._settings = settings
        self._directory = directory
        self._last = time.monotonic()

    def run_started(self, record: RunRecord) -> None:
        """Opens the trackers, and tells them what they have missed of a run that goes on."""
        kept = read_state(self._directory / STATE)
        for safe_tracker in self._safe_trackers:
            known = kept.get(safe_tracker.name, Known())
            safe_tracker.open(tracked(record, self._settings, self._directory, known), known.told)
        self._tell(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Tells the phase's counts and rates."""
        self._tell(record)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Tells the metrics of all epochs since the last time, if that was some time ago."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._tell(record)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Tells the phase's metrics, seconds and weight changes."""
        self._tell(record)

    def run_ended(self, record: RunRecord) -> None:
        """Tells the rest, with what other listeners have written of a completed run; closes all."""
        self._tell(record)
        step = max((row.global_epoch + 1 for row in record.history), default=0)
        done = record.status == "completed"
        pictures = sorted((self._directory / PICTURES).glob("*.png")) if done else []
        files = [self._directory / name for name in FILES]
        for safe_tracker in self._safe_trackers:
            for path in pictures:
                safe_tracker.picture(path, step)
            for path in filter(Path.is_file, files):
                safe_tracker.file(path)
            safe_tracker.close(record.status)

    def _tell(self, record: RunRecord) -> None:
        events = list(story(record))
        for safe_tracker in self._safe_trackers:
            safe_tracker.tell(events)
        self._last = time.monotonic()
        self._keep()

    def _keep(self) -> None:
        opened = [each for each in self._safe_trackers if each.known is not None]
        state = {each.name: asdict(Known(each.known, each.told, each.where)) for each in opened}
        try:
            write_atomically(self._directory / STATE, json.dumps(state, indent=2))
        except (StorageError, OSError) as error:
            log.warning("a resume would tell trackers again what they know: %s", error)


def tracked(
    record: RunRecord, settings: TrackersConfig, directory: Path, known: Known
) -> TrackedRun:
    """Returns how a run is introduced; a job of a sweep is in the sweep's group."""
    directory = directory.absolute()
    sweep = directory.parent if (directory.parent / "multirun.yaml").is_file() else None
    name, group = directory.name, None
    if sweep is not None:
        name, group = f"{sweep.name}-{directory.name}", sweep.name
    tags = {
        "dataset.fingerprint": record.dataset.fingerprint,
        "backbone.weights_sha256": record.backbone.weights_sha256,
        "device": ", ".join(map(str, record.device.get("names", []))),
        **{f"version.{package}": version for package, version in record.versions.items()},
    }
    return TrackedRun(
        settings.project,
        printable(name if settings.name is None else settings.name),
        printable(group) if settings.group is None and group is not None else settings.group,
        directory,
        {key: value for key, value in record.config.items() if key != "trackers"},
        {name: printable(value) for name, value in tags.items()},
        frozenset(each.lstrip("+").partition("=")[0] for each in record.overrides),
        known.known,
        known.where,
    )


def read_state(path: Path) -> dict[str, Known]:
    """Returns by tracker what the run is known by and what was told; nothing of a damaged file."""
    try:
        return {name: _entry(each) for name, each in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except DAMAGES as error:
        log.warning("%s is not as a run wrote it: trackers start over: %s", path, error)
        return {}


def _entry(kept: Mapping[str, Any]) -> Known:
    known, told = kept["known"], {str(kind): int(number) for kind, number in kept["told"].items()}
    where = kept.get("where")
    if not isinstance(known, str) or not isinstance(where, str | None):
        raise ValueError(f"a tracked run is known by {known!r} in {where!r}")
    return Known(known, told, where)

"""The listener that drives all trackers: it sends each what is new in the record of the run."""

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
    """State of a tracked run, for the process that resumes the run.

    Args:
        known: Identifier of the run in the tracker; None for a new run.
        told: Number of events of each kind that the tracker has received.
        where: Store that holds the run; None if the tracker has only one.
    """

    known: str | None = None
    told: dict[str, int] = field(default_factory=dict)
    where: str | None = None


class TrackersListener(Listener):
    """Sends events to trackers at the start and end of each phase, and every `EVERY_SECONDS`.

    The run directory records what each tracker has received: a resumed run continues the same
    tracked runs, sends what its killed process could not send, and sends nothing twice.

    Args:
        trackers: Unopened trackers by readable name.
        settings: Config section with project, name and group.
        directory: Run directory.
        failed: Function that receives one line about each tracker that fails.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        settings: TrackersConfig,
        directory: Path,
        failed: Callable[[str], None],
    ) -> None:
        self._safe_trackers = [
            SafeTracker(name, tracker, failed) for name, tracker in trackers.items()
        ]
        self._settings = settings
        self._directory = directory
        self._last = time.monotonic()

    def run_started(self, record: RunRecord) -> None:
        """Opens the trackers and sends them the events of a resumed run that they have missed."""
        kept = read_state(self._directory / STATE)
        for safe_tracker in self._safe_trackers:
            known = kept.get(safe_tracker.name, Known())
            safe_tracker.open(tracked(record, self._settings, self._directory, known), known.told)
        self._tell(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Sends the counts and rates of the phase."""
        self._tell(record)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Sends the metrics of all new epochs, at most every `EVERY_SECONDS`."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._tell(record)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Sends the metrics, the seconds and the weight changes of the phase."""
        self._tell(record)

    def run_ended(self, record: RunRecord) -> None:
        """Sends the remaining events, the pictures and files, and closes the trackers."""
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
        state = {
            tracker.name: asdict(Known(tracker.known, tracker.told, tracker.where))
            for tracker in self._safe_trackers
            if tracker.known is not None
        }
        try:
            write_atomically(self._directory / STATE, json.dumps(state, indent=2))
        except (StorageError, OSError) as error:
            log.warning("a resumed run would send events to trackers twice: %s", error)


def tracked(
    record: RunRecord, settings: TrackersConfig, directory: Path, known: Known
) -> TrackedRun:
    """Returns the description of a run for trackers; jobs of a sweep form a group."""
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
        frozenset(override.lstrip("+").partition("=")[0] for override in record.overrides),
        known.known,
        known.where,
    )


def read_state(path: Path) -> dict[str, Known]:
    """Returns the state of each tracker by name; an empty one if the file is missing or damaged."""
    try:
        return {name: _entry(kept) for name, kept in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except DAMAGES as error:
        log.warning("%s is damaged, so trackers start new runs: %s", path, error)
        return {}


def _entry(kept: Mapping[str, Any]) -> Known:
    known, told = kept["known"], {str(kind): int(number) for kind, number in kept["told"].items()}
    where = kept.get("where")
    if not isinstance(known, str) or not isinstance(where, str | None):
        raise ValueError(f"tracked run {known!r} in {where!r}")
    return Known(known, told, where)

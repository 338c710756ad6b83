"""What a tracker is: the few things that every library that keeps runs can be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from finetune.reporting.trackers.story import Event


@dataclass(frozen=True)
class TrackedRun:
    """A run, as it is introduced to a tracker.

    Args:
        project: that it belongs to.
        name: for people; another run may have the same.
        group: of the runs that it is compared with, such as a sweep; None: none.
        directory: the run directory.
        config: nested plain values.
        tags: facts by name: fingerprints and versions.
        given: keys of the config that the user has set, such as those of a sweep.
        known: what `open` returned to an earlier process of the same run; None: it is new.
        where: the place that the earlier process kept it in; None: none in particular.
    """

    project: str
    name: str
    group: str | None
    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    known: str | None = None
    where: str | None = None


class Tracker(Protocol):
    """Records one run. `SafeTracker` catches every exception and disables a tracker that fails.

    A tracker that may keep a run in one of several places says in which one it did, in `where`.
    """

    def open(self, run: TrackedRun) -> str:
        """Begins to keep a run, or goes on with a known one.

        Returns:
            What the run is known by; `TrackedRun.known` of a process that goes on.
        """
        ...

    def metrics(self, events: Sequence[Event]) -> None:
        """Keeps numbers; steps never fall."""

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Keeps a picture, a PNG file."""

    def file(self, path: Path) -> None:
        """Keeps a copy of a file."""

    def close(self, status: str) -> None:
        """Ends: `status` is completed, failed or interrupted; nothing is told afterwards."""

"""The protocol of a tracker: the few methods that every experiment tracking library supports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from finetune.reporting.trackers.story import Event


@dataclass(frozen=True)
class TrackedRun:
    """Description of a run for trackers.

    Args:
        project: Name of the project.
        name: Readable name, which need not be unique.
        group: Name of the group of runs to compare, such as a sweep; None for no group.
        directory: Run directory.
        config: Config as nested plain values.
        tags: Fingerprints, digests and versions by name.
        given: Config keys that the user has set, such as those of a sweep.
        known: Identifier that `open` returned in an earlier process of this run; None for a new run.
        where: Store that the earlier process used; None if the tracker has only one.
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

    A tracker with a choice of stores has an attribute `where`, which names the store of the run.
    """

    def open(self, run: TrackedRun) -> str:
        """Starts a new run, or continues the run `TrackedRun.known`.

        Returns:
            Identifier of the run, which is `TrackedRun.known` for the process that resumes it.
        """
        ...

    def metrics(self, events: Sequence[Event]) -> None:
        """Logs the numbers of events, whose steps never decrease."""

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Logs a picture in PNG format."""

    def file(self, path: Path) -> None:
        """Saves a copy of a file."""

    def close(self, status: str) -> None:
        """Ends the run with the status completed, failed or interrupted. It is the last call."""

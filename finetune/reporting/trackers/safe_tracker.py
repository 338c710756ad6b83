"""Isolates a run from one tracker: hides the tracker's output and catches its exceptions."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TypeVar

from finetune.printable import printable
from finetune.reporting.trackers.protocol import TrackedRun, Tracker
from finetune.reporting.trackers.story import KINDS, Event

log = logging.getLogger(__name__)
Result = TypeVar("Result")
LONGEST = 300  # characters of a library's error message


class SafeTracker:
    """Sends new events to one tracker until it fails for the first time.

    Args:
        name: Readable name of the tracker.
        tracker: Tracker to open and drive.
        failed: Function that receives one line about the first failure.
    """

    def __init__(self, name: str, tracker: Tracker, failed: Callable[[str], None]) -> None:
        self.name = name
        self.known: str | None = None
        self.where: str | None = None
        self.told: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._tracker = tracker
        self._failed = failed
        self._alive = True

    def open(self, run: TrackedRun, told: dict[str, int]) -> None:
        """Opens the tracker; `told` is the number of events of each kind that it already has."""
        known = self._call("be opened", lambda: self._tracker.open(run))
        if known is not None:
            self.where = getattr(self._tracker, "where", None)
            self.known, self.told = known, {kind: told.get(kind, 0) for kind in KINDS}

    def tell(self, story: Sequence[Event]) -> None:
        """Sends the events that the tracker does not have yet."""
        new = [event for event in story if event.number >= self.told[event.kind]]

        def send() -> bool:
            self._tracker.metrics(new)
            return True

        if new and self._call("take metrics", send):
            for event in new:
                self.told[event.kind] = event.number + 1

    def picture(self, path: Path, step: int) -> None:
        """Sends a picture under the name of its file."""
        self._call(
            f"take {path.name}", lambda: self._tracker.picture(path.stem, path.read_bytes(), step)
        )

    def file(self, path: Path) -> None:
        """Sends a file."""
        self._call(f"take {path.name}", lambda: self._tracker.file(path))

    def close(self, status: str) -> None:
        """Closes the tracker."""
        self._call("be closed", lambda: self._tracker.close(status))
        self._alive = False

    def _call(self, what: str, do: Callable[[], Result]) -> Result | None:
        if not self._alive:
            return None
        try:
            with _silenced():
                return do()
        except (Exception, SystemExit) as error:  # the run does not depend on the library
            self._alive = False
            line = (
                f"{self.name} could not {what} and is disabled for this run: {_first_line(error)}"
            )
            log.warning("%s", line)
            self._failed(line)
            return None


def _first_line(error: BaseException) -> str:
    """Returns the first line of an error, without credentials of a URL in it."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return printable(re.sub(r"://[^/\s@]+@", "://", text))[:LONGEST]


@contextmanager
def _silenced() -> Iterator[None]:
    """Hides greetings, links and warnings of libraries from the terminal of the run."""
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield

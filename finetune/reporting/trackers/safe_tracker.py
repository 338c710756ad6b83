"""One tracker at arm's length: what it prints is not shown, and what it raises stops nothing."""

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
LONGEST = 300  # characters of what a library says of its failure


class SafeTracker:
    """Tells one tracker what it has not been told yet, until it fails for the first time.

    Args:
        name: of the tracker, for people.
        tracker: not opened.
        failed: hears one line about the first failure.
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
        """Opens the tracker; `told` says how many events of each kind it knows already."""
        known = self._call("be opened", lambda: self._tracker.open(run))
        if known is not None:
            self.where = getattr(self._tracker, "where", None)
            self.known, self.told = known, {kind: told.get(kind, 0) for kind in KINDS}

    def tell(self, story: Sequence[Event]) -> None:
        """Passes on what is new in the story of the run."""
        new = [each for each in story if each.number >= self.told[each.kind]]

        def send() -> bool:
            self._tracker.metrics(new)
            return True

        if new and self._call("take metrics", send):
            for each in new:
                self.told[each.kind] = each.number + 1

    def picture(self, path: Path, step: int) -> None:
        """Passes a picture on, by the name of its file."""
        self._call(
            f"take {path.name}", lambda: self._tracker.picture(path.stem, path.read_bytes(), step)
        )

    def file(self, path: Path) -> None:
        """Passes a file on."""
        self._call(f"take {path.name}", lambda: self._tracker.file(path))

    def close(self, status: str) -> None:
        """Closes the tracker."""
        self._call("be closed", lambda: self._tracker.close(status))
        self._alive = False

    def _call(self, what: str, do: Callable[[], Result]) -> Result | None:
        if not self._alive:
            return None
        try:
            with _unheard():
                return do()
        except (Exception, SystemExit) as error:  # of a library; the run does not depend on it
            self._alive = False
            line = f"{self.name} could not {what} and is left alone from here on: {_said(error)}"
            log.warning("%s", line)
            self._failed(line)
            return None


def _said(error: BaseException) -> str:
    """Returns the first line of an error, without a password that a URL in it may hold."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return printable(re.sub(r"://[^/\s@]+@", "://", text))[:LONGEST]


@contextmanager
def _unheard() -> Iterator[None]:
    """Keeps the terminal to the run: libraries greet, link and warn."""
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield

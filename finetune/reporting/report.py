"""Writes ``report.html`` and ``plots/``, during a run and from the record of an earlier run.

The report must not cost the run: it takes a small share of its time, and if it fails, the error is
logged and the run continues. matplotlib and Jinja are imported only when there is something to write.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.record.listener import Listener
from finetune.record.schema import PhaseRecord, RunRecord
from finetune.storage.durable import write_atomically

if TYPE_CHECKING:
    from finetune.reporting.plots import Gallery

log = logging.getLogger(__name__)
PICTURES = "plots"  # folder of a run directory
SPARING = 10.0  # a page is not rewritten before this multiple of its own cost has passed
FIRST_COST = 2.0  # assumed seconds of the first page, with the import of matplotlib


def write_report(record: RunRecord, directory: Path) -> list[Path]:
    """Writes the page and the pictures of a record.

    Args:
        record: Record of the run with its history.
        directory: Run directory.

    Returns:
        Paths of the written files, the page first.

    Raises:
        StorageError: If a file cannot be written.
    """
    from finetune.reporting.plots import Gallery

    gallery = Gallery()
    pictures = _write_pictures(record, directory, gallery)
    return [_write_page(record, directory, gallery), *pictures]


def write_picture(record: RunRecord, name: str, path: Path) -> None:
    """Writes one picture.

    Args:
        record: Record that has content for the picture.
        name: Name of the picture, a key of `finetune.reporting.plots.PICTURES`.
        path: Path of the file, ``.png`` or ``.svg``.

    Raises:
        StorageError: If the file cannot be written.
    """
    from finetune.reporting.plots import Gallery

    (drawing,) = Gallery().drawings(record, [name])
    write_atomically(path, drawing.png() if path.suffix == ".png" else drawing.file)


def _write_page(record: RunRecord, directory: Path, gallery: "Gallery") -> Path:
    from finetune.reporting.page import FILE, report_page

    page = report_page(record, directory, gallery.drawings(record))
    write_atomically(directory / FILE, page)
    return directory / FILE


def _write_pictures(record: RunRecord, directory: Path, gallery: "Gallery") -> list[Path]:
    folder = directory / PICTURES
    folder.mkdir(exist_ok=True)
    written = []
    for drawing in gallery.drawings(record):
        for suffix, content in (("svg", drawing.file), ("png", drawing.png())):
            path = folder / f"{drawing.name}.{suffix}"
            write_atomically(path, content)
            written.append(path)
    return written


class ReportListener(Listener):
    """Writes the page when a phase ends, and the page and the pictures when the run ends.

    The page at the end of a phase is skipped if less than ten times the cost of the last one has
    passed. The record holds the time spent as ``seconds["reporting"]``.

    Args:
        directory: Run directory.
        keep: Function that saves the record again, with the cost of the last page.
        pictures: Whether to write the files in ``plots/``, which take as long as the page. Jobs of a
            sweep leave them to the command `report`.
    """

    def __init__(
        self, directory: Path, keep: Callable[[RunRecord], object], pictures: bool = True
    ) -> None:
        self._directory = directory
        self._wanted = pictures
        self._keep = keep
        self._gallery: Gallery | None = None
        self._cost, self._ended = FIRST_COST, time.monotonic()

    def run_started(self, record: RunRecord) -> None:
        """Starts the clock."""
        self._ended = time.monotonic()

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the page if the last one is old enough."""
        if time.monotonic() - self._ended < SPARING * self._cost:
            return
        self._spend(record, self._page)

    def run_ended(self, record: RunRecord) -> None:
        """Writes the pictures, then the page, which includes their cost, then the record."""
        before = record.seconds.get("reporting", 0.0)
        if self._wanted:
            self._spend(record, self._pictures)
        else:
            self._spend(record, self._draw)
        self._count(record, before)
        before = record.seconds["reporting"]
        self._spend(record, self._page)
        self._count(record, before)
        self._keep(record)

    def _count(self, record: RunRecord, before: float) -> None:
        """Adds the time spent since `before` to the total, which was measured earlier."""
        spent = record.seconds["reporting"] - before
        record.seconds["total"] = record.seconds.get("total", 0.0) + spent

    def _spend(self, record: RunRecord, write: Callable[[RunRecord], object]) -> None:
        """Calls `write`, logs any error, and records the time spent."""
        started = time.monotonic()
        try:
            write(record)
        except Exception:
            log.exception("the report could not be written; the run continues")
        self._ended = time.monotonic()
        self._cost = self._ended - started
        record.seconds["reporting"] = record.seconds.get("reporting", 0.0) + self._cost

    def _page(self, record: RunRecord) -> None:
        _write_page(record, self._directory, self._drawn())

    def _draw(self, record: RunRecord) -> None:
        self._drawn().drawings(record)

    def _pictures(self, record: RunRecord) -> None:
        _write_pictures(record, self._directory, self._drawn())

    def _drawn(self) -> "Gallery":
        from finetune.reporting.plots import Gallery

        if self._gallery is None:
            self._gallery = Gallery()
        return self._gallery

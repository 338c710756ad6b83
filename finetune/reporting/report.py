"""Writes ``report.html`` and ``plots/``: as a run goes, and from what a run has left.

A report is worth less than the run: it takes a small part of its time, and where it fails the log
says why and the run goes on. matplotlib and Jinja are imported when there is something to write.
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
SPARING = 10.0  # times its own cost that a page waits for the next one
FIRST_COST = 2.0  # seconds, as long as none was written: matplotlib is to be imported too


def write_report(record: RunRecord, directory: Path) -> list[Path]:
    """Writes page and pictures of a record.

    Args:
        record: of the run, its history included.
        directory: the run directory.

    Returns:
        What was written: the page first.

    Raises:
        StorageError: for a place that cannot be written.
    """
    from finetune.reporting.plots import Gallery

    gallery = Gallery()
    pictures = _write_pictures(record, directory, gallery)
    return [_write_page(record, directory, gallery), *pictures]


def write_picture(record: RunRecord, name: str, path: Path) -> None:
    """Writes one picture.

    Args:
        record: which has something for it.
        name: of the picture, a key of `finetune.reporting.plots.PICTURES`.
        path: of the file, ``.png`` or ``.svg``.

    Raises:
        StorageError: for a place that cannot be written.
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
    for each in gallery.drawings(record):
        for suffix, content in (("svg", each.file), ("png", each.png())):
            path = folder / f"{each.name}.{suffix}"
            write_atomically(path, content)
            written.append(path)
    return written


class ReportListener(Listener):
    """Writes the page when a phase ends, and with the pictures when the run ends.

    A page at a phase's end is left out if the last one was written less than ten times its cost
    ago. What it all took is in the record, as ``seconds["reporting"]``.

    Args:
        directory: the run directory.
        keep: writes the record down once more, with what the last page took.
        pictures: whether to write the files in ``plots/`` too, which take as long as the page; a
            job of a sweep leaves them to `report`.
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
        """Writes nothing."""
        self._ended = time.monotonic()

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the page, if that costs little."""
        if time.monotonic() - self._ended < SPARING * self._cost:
            return
        self._spend(record, self._page)

    def run_ended(self, record: RunRecord) -> None:
        """Writes the pictures, then the page, which knows what they took, then the record."""
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
        """Adds to the total what was spent after it had been taken."""
        spent = record.seconds["reporting"] - before
        record.seconds["total"] = record.seconds.get("total", 0.0) + spent

    def _spend(self, record: RunRecord, write: Callable[[RunRecord], object]) -> None:
        """Writes; where that fails the log says so."""
        began = time.monotonic()
        try:
            write(record)
        except Exception:
            log.exception("the report could not be written; the run goes on")
        self._ended = time.monotonic()
        self._cost = self._ended - began
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

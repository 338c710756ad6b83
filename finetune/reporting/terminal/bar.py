"""The one progress bar of a run: the last line of a terminal, below all that is printed."""

import sys
import time
from collections.abc import Mapping

from rich.cells import set_cell_size
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from finetune.printable import printable
from finetune.record.schema import PhaseRecord
from finetune.reporting.numbers import number
from finetune.reporting.terminal.forecast import Forecast
from finetune.reporting.terminal.pace import Pace, RowPace

_REFRESHES = 8  # a second
_NAME = 20  # characters of a phase's name
_FREE = 3  # columns: a terminal writes ^C behind the bar, which must not begin a new line
_LEAST = 60  # columns: below, metrics and rate are left out
_WIDE = 110  # columns: from here on the number of steps and the rate are shown beside the metrics


class RunBar:
    """Shows where a run is; where the console is no interactive terminal it shows nothing.

    Args:
        console: where to.
        pace: of the run; moved on here.
        samples_a_step: rows of the training split by steps of an epoch.
        forecast: of the time left, moved on here.
    """

    def __init__(
        self,
        console: Console,
        pace: Pace,
        samples_a_step: float,
        forecast: Forecast,
    ) -> None:
        self.shown = self.is_shown(console)
        self._console, self._pace, self._samples_a_step = console, pace, samples_a_step
        self._forecast = forecast
        self._began = time.perf_counter()
        self._doing = ""
        self._logs: dict[str, float] = {}
        self._rows: RowPace | None = None
        # Errors that are sent elsewhere than to the terminal stay where they are sent.
        self._live = Live(
            console=console,
            get_renderable=self.line,
            transient=True,
            refresh_per_second=_REFRESHES,
            redirect_stderr=sys.stderr.isatty(),
        )

    @staticmethod
    def is_shown(console: Console) -> bool:
        """Tells whether a console is a terminal that a bar is shown on."""
        return console.is_interactive and console.file.isatty() and not console.quiet

    def start(self) -> None:
        """Shows the bar."""
        if self.shown:
            self._live.start()

    def stop(self) -> None:
        """Takes the bar away."""
        self._live.stop()

    def doing(self, what: str) -> None:
        """Says what the run does now."""
        self._doing, self._rows = printable(what), None

    def phase(self, phase: PhaseRecord, what: str) -> None:
        """Says what is done in a phase."""
        self.doing(f"{_short(printable(phase.name))} {what}")

    def phase_began(self, phase: PhaseRecord) -> None:
        """Says that a phase begins."""
        self._forecast.began(phase.index, time.perf_counter())
        self._logs = {}
        self.phase(phase, "starts")

    def phase_ended(self, phase: PhaseRecord, last: bool) -> None:
        """Moves on to where the phase has ended; after the last one comes the test."""
        self._pace.phase_ended(phase)
        self._forecast.ended(phase.index, phase.epochs_run, time.perf_counter())
        self.doing("test split, model" if last else "next phase")

    def step(
        self, phase: PhaseRecord, step: int, num_steps: int, logs: Mapping[str, float]
    ) -> None:
        """Moves on by optimizer updates; after the last of an epoch its validation comes."""
        now = time.perf_counter()
        self._pace.step(phase, step, now)
        self._forecast.step(phase.epochs_run * num_steps + step + 1, now)
        self._logs = dict(logs)
        where = f"{phase.epochs_run + 1}/{phase.epochs_planned}"
        self.phase(phase, f"{where} validation" if step + 1 == num_steps else where)

    def rows(self, done: int, total: int) -> None:
        """Moves on by rows whose features are computed."""
        now = time.perf_counter()
        if self._rows is None:
            self.doing("features")
            self._rows = RowPace(0, now)
        self._rows.rows(done, total, now)
        self._forecast.rows(self._rows.rows_a_second, self._rows.seconds_left(now), now)

    def line(self) -> RenderableType:
        """Returns the bar as it is now."""
        rows, pace, now = self._rows, self._pace, time.perf_counter()
        left = self._forecast.seconds_left(now)
        if rows is not None:
            done, total, rate = rows.done, rows.total, rows.rows_a_second
        else:
            done, total, rate = pace.completed, pace.total, pace.steps_a_second
            rate = None if rate is None else rate * self._samples_a_step
        width = self._console.width
        cells = [f"{done:,}/{total:,}", _rate(rate)] if rows or width >= _WIDE else []
        if rows is not None and width < _LEAST:
            cells = cells[:1]
        if rows is None:
            cells += _metrics(self._logs) if width >= _LEAST else []
            # Steps of later phases take longer: the bar is of the time, as far as it is known.
            done, total = (done, total) if left is None else _share(now - self._began, left)
        cells.append("time left not known" if left is None else f"about {_duration(left)} left")
        table = Table.grid(Column(no_wrap=True), Column(ratio=1), padding=(0, 1), expand=True)
        table.width = width - _FREE
        for _ in cells:
            table.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=max(total, 1), completed=done)
        table.add_row(Text(self._doing), bar, *map(Text, cells))
        return table


def _metrics(logs: Mapping[str, float]) -> list[str]:
    """Returns loss and accuracy of the epoch so far, those that there are."""
    shown = [f"loss {number(logs['loss'])}"] if "loss" in logs else []
    return [*shown, f"accuracy {logs['accuracy']:.1%}"] if "accuracy" in logs else shown


def _share(gone: float, left: float) -> tuple[int, int]:
    """Returns what is done and what there is in all, in thousandths of the time."""
    return round(1000 * gone / max(gone + left, 1e-9)), 1000


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{set_cell_size(name, _NAME - 1).rstrip()}…"


def _rate(samples_a_second: float | None) -> str:
    if samples_a_second is None:
        return "– samples/s"
    return f"{samples_a_second:,.{0 if samples_a_second >= 10 else 1}f} samples/s"


def _duration(seconds: float) -> str:
    """Returns minutes and seconds, from an hour on with hours.

    >>> _duration(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

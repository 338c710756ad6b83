"""The progress bar of a run, on the last line of the terminal."""

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

_REFRESHES = 8  # per second
_NAME = 20  # characters of a phase's name
_FREE = 3  # columns right of the bar, so that the ^C of the terminal does not start a new line
_LEAST = 60  # columns; a narrower bar leaves out metrics and rate
_WIDE = 110  # columns; a wider bar shows the number of steps and the rate beside the metrics


class RunBar:
    """Shows the progress of a run. It shows nothing unless the console is an interactive terminal.

    Args:
        console: Console to draw on.
        pace: Step counter of the run, which the bar advances.
        samples_a_step: Rows of the training split divided by the steps of an epoch.
        forecast: Forecast of the remaining time, which the bar updates.
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
        # A redirected stderr stays redirected.
        self._live = Live(
            console=console,
            get_renderable=self.line,
            transient=True,
            refresh_per_second=_REFRESHES,
            redirect_stderr=sys.stderr.isatty(),
        )

    @staticmethod
    def is_shown(console: Console) -> bool:
        """Returns whether the console is a terminal that can show a bar."""
        return console.is_interactive and console.file.isatty() and not console.quiet

    def start(self) -> None:
        """Shows the bar."""
        if self.shown:
            self._live.start()

    def stop(self) -> None:
        """Removes the bar."""
        self._live.stop()

    def doing(self, what: str) -> None:
        """Sets the text for the current activity."""
        self._doing, self._rows = printable(what), None

    def phase(self, phase: PhaseRecord, what: str) -> None:
        """Sets the text for an activity of a phase."""
        self.doing(f"{_short(printable(phase.name))} {what}")

    def phase_began(self, phase: PhaseRecord) -> None:
        """Starts a phase."""
        self._forecast.began(phase.index, time.perf_counter())
        self._logs = {}
        self.phase(phase, "starts")

    def phase_ended(self, phase: PhaseRecord, last: bool) -> None:
        """Advances to the end of a phase, and after the last phase to the test split."""
        self._pace.phase_ended(phase)
        self._forecast.ended(phase.index, phase.epochs_run, time.perf_counter())
        self.doing("test split, model" if last else "next phase")

    def step(
        self, phase: PhaseRecord, step: int, num_steps: int, logs: Mapping[str, float]
    ) -> None:
        """Advances to an optimizer update, and after the last update of an epoch to its validation."""
        now = time.perf_counter()
        self._pace.step(phase, step, now)
        self._forecast.step(phase.epochs_run * num_steps + step + 1, now)
        self._logs = dict(logs)
        where = f"{phase.epochs_run + 1}/{phase.epochs_planned}"
        self.phase(phase, f"{where} validation" if step + 1 == num_steps else where)

    def rows(self, done: int, total: int) -> None:
        """Advances to the number of rows whose features are computed."""
        now = time.perf_counter()
        if self._rows is None:
            self.doing("features")
            self._rows = RowPace(0, now)
        self._rows.rows(done, total, now)
        self._forecast.rows(self._rows.rows_a_second, self._rows.seconds_left(now), now)

    def line(self) -> RenderableType:
        """Returns the current bar."""
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
            # Steps of later phases take longer, so the bar shows the share of the time if it is known.
            done, total = (done, total) if left is None else _share(now - self._began, left)
        cells.append("time left unknown" if left is None else f"about {_duration(left)} left")
        table = Table.grid(Column(no_wrap=True), Column(ratio=1), padding=(0, 1), expand=True)
        table.width = width - _FREE
        for _ in cells:
            table.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=max(total, 1), completed=done)
        table.add_row(Text(self._doing), bar, *map(Text, cells))
        return table


def _metrics(logs: Mapping[str, float]) -> list[str]:
    """Returns the available ones of loss and accuracy over the epoch so far."""
    shown = [f"loss {number(logs['loss'])}"] if "loss" in logs else []
    return [*shown, f"accuracy {logs['accuracy']:.1%}"] if "accuracy" in logs else shown


def _share(gone: float, left: float) -> tuple[int, int]:
    """Returns elapsed and total time in thousandths of the total."""
    return round(1000 * gone / max(gone + left, 1e-9)), 1000


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{set_cell_size(name, _NAME - 1).rstrip()}…"


def _rate(samples_a_second: float | None) -> str:
    if samples_a_second is None:
        return "– samples/s"
    return f"{samples_a_second:,.{0 if samples_a_second >= 10 else 1}f} samples/s"


def _duration(seconds: float) -> str:
    """Returns minutes and seconds, with hours if there are any.

    >>> _duration(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""The console listener: phase headers with weight counts, a progress bar, and a line per epoch.

If the output is not a terminal, there is no bar and no escape code, and no line is cut or folded.
rich honours `NO_COLOR` and ``TERM=dumb``.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from rich.console import Console

from finetune.printable import printable
from finetune.record.listener import Listener
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord
from finetune.reporting.numbers import number as written
from finetune.reporting.numbers import plural, worded
from finetune.reporting.remarks import interval_text, remarks
from finetune.reporting.terminal.bar import RunBar
from finetune.reporting.terminal.closing import next_commands, opening_commands, places
from finetune.reporting.terminal.forecast import Forecast, PhaseCost
from finetune.reporting.terminal.pace import Pace
from finetune.reporting.terminal.phases import counts_line, data, ended, header
from finetune.reporting.terminal.tables import (
    counts_table,
    epoch_header,
    epoch_line,
    features_table,
    more_metrics,
    phases_table,
    plan_table,
    results_table,
)
from finetune.startup import write_plainly

__all__ = ["Console", "ConsoleListener", "make_console", "show_check", "show_notices", "show_plan"]

UNFOLDED = 100_000  # columns of output that is not a terminal


class VerboseConsole(Console):
    """A console that prints the full table where others print one line about the changes."""


def make_console(quiet: bool = False, verbose: bool = False) -> Console:
    """Returns a console on stdout. A quiet one prints nothing, a verbose one prints every table."""
    write_plainly(sys.stdout)
    made = VerboseConsole if verbose else Console
    console = made(highlight=False, soft_wrap=False, quiet=quiet)
    if not console.is_terminal and not console.is_jupyter:
        console.width = UNFOLDED
    return console


def show_notices(console: Console, lines: Iterable[str]) -> None:
    """Prints notices about a run on stderr, unless `console` is quiet."""
    for line in lines:
        if not console.quiet:
            print(printable(line), file=sys.stderr, flush=True)


# The counts by stage that each console showed last; the jobs of a sweep usually share them.
_TABLES: WeakKeyDictionary[Console, list[dict[str, Any]]] = WeakKeyDictionary()
# Computes from a record the cost of each phase, the multiply-adds per example of the pass that
# computes features, and the multiply-adds of the test split.
Costs = Callable[[RunRecord], tuple[list[PhaseCost], float, float]]


class ConsoleListener(Listener):
    """Prints the progress and the results of a run.

    Args:
        console: Console to print on.
        directory: Run directory, named in the closing lines.
        num_steps: Optimizer updates per epoch.
        epochs: Planned epochs of each phase, in order.
        closing: Whether to print the closing lines, with the files and the next commands.
        costs: Function that computes the costs of a run from its record at the start; None if they
            are unknown.
    """

    def __init__(
        self,
        console: Console,
        directory: Path,
        num_steps: int,
        epochs: Sequence[int],
        *,
        closing: bool = True,
        costs: Costs | None = None,
    ) -> None:
        self._console = console
        self._directory = directory
        self._num_steps, self._epochs, self._closing = num_steps, epochs, closing
        self._costs = costs
        self._bar: RunBar | None = None
        self._extracting = self._headed = False  # whether this phase has printed these lines
        self._waiting = ""
        self._counted: PhaseRecord | None = None  # the phase whose counts were printed last

    def run_started(self, record: RunRecord) -> None:
        """Prints backbone, dataset and device, and starts the bar."""
        for line in _head(record):
            self._print(line)
        if record.features:
            self._console.print()
            self._console.print(features_table(record))
        pace = Pace(self._num_steps, self._epochs)
        if record.resumed:
            self._print(f"\n{_resumed(record.resumed[-1])}")
        for phase in record.phases:
            if phase.frozen_proof is not None:
                pace.phase_ended(phase)
        self._bar = self._new_bar(record, pace)
        self._bar.start()

    def _new_bar(self, record: RunRecord, pace: Pace) -> RunBar:
        samples = record.dataset.splits.get("train", 0) / max(self._num_steps, 1)
        costs, prefix, closing = [PhaseCost(epochs) for epochs in self._epochs], 0.0, 0.0
        if self._costs is not None and RunBar.is_shown(self._console):
            costs, prefix, closing = self._costs(record)
        forecast = Forecast(self._num_steps, samples, costs, prefix, closing)
        for phase in record.phases:
            if phase.frozen_proof is not None:
                forecast.ended(phase.index, phase.epochs_run, time.perf_counter())
        return RunBar(self._console, pace, samples, forecast)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Prints the header of a phase and its weight counts: all of them first, then the changes."""
        self._print(f"\n{header(phase, len(self._epochs))}")
        shown, self._counted = self._counted, phase
        known = shown is not None or _TABLES.get(self._console) == phase.stages
        if not known or isinstance(self._console, VerboseConsole):
            self._console.print(counts_table(phase))
            _TABLES[self._console] = phase.stages
        self._print(f"  {counts_line(phase, shown)}")
        self._extracting = self._headed = False
        if self._bar is not None:
            self._bar.phase_began(phase)

    def extracting(self, what: str, done: int, total: int) -> None:
        """Shows how many rows have features, or what the run waits for, and prints each once."""
        if total and not self._extracting:
            self._print(f"  computing features of {total:,} samples")
        elif not total and what != self._waiting:
            self._print(f"  {data(what)}")
        self._extracting, self._waiting = bool(total), "" if total else what
        if self._bar is not None and total:
            self._bar.rows(done, total)
        elif self._bar is not None:
            self._bar.doing(what)

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Advances the bar."""
        if self._bar is not None:
            self._bar.step(phase, step, num_steps, logs)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Prints the line of an epoch, and a header above the first line of a phase."""
        if not self._headed:
            self._headed = True
            self._print(f"[dim]{epoch_header(phase)}[/]")
        self._print(epoch_line(phase, rows))

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Prints the proof and the restored epoch."""
        if self._bar is not None:
            self._bar.phase_ended(phase, len(record.phases) == len(self._epochs))
        for line in ended(record, phase):
            self._print(f"  {line}")

    def run_ended(self, record: RunRecord) -> None:
        """Prints the results and the closing lines."""
        if self._bar is not None:
            self._bar.stop()
        self._console.print()
        if record.phases:
            self._console.print(results_table(record))
        if record.status == "completed":
            for line in _results(record):
                self._print(line)
        else:
            seconds = record.seconds.get("total", 0.0)
            self._print(f"\n[bold red]{record.status}[/] after {seconds:.1f} s")
        if self._closing:
            self._close(record)

    def _close(self, record: RunRecord) -> None:
        self._console.print()
        for name, path in places(record, self._directory):
            self._print_whole(f"{name:<11}  {data(path)}")
        for name, command in opening_commands(record, self._directory):
            self._print_whole(f"{name:<11}  {data(command)}")
        for label, command in zip(
            ("next", ""), next_commands(record, self._directory), strict=True
        ):
            self._print_whole(f"[bold]{label:<11}[/]  {data(command)}")

    def _print(self, text: str) -> None:
        """Prints text that wraps between words."""
        self._console.print(text, emoji=False)

    def _print_whole(self, text: str) -> None:
        """Prints a line without wrapping it, so that it can be copied."""
        self._console.print(text, emoji=False, soft_wrap=True)


def _head(record: RunRecord) -> Iterator[str]:
    splits = ", ".join(f"{name} {number:,}" for name, number in record.dataset.splits.items())
    names = Counter(record.device["names"])
    devices = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in names.items())
    yield (
        f"[bold]{data(record.backbone.name)}[/] ({data(record.backbone.source)}) on "
        f"[bold]{data(record.dataset.name)}[/]: {record.dataset.num_classes} classes, "
        f"{splits}; {data(devices)}, {record.device['precision']}, seed {record.seed}"
    )
    if record.backbone.loaded is not None:
        yield f"[dim]{data(record.backbone.loaded)}[/]"
    if record.backbone.preprocessing:
        cells = "; ".join(
            f"{k.replace('_', ' ')} {worded(v)}" for k, v in record.backbone.preprocessing.items()
        )
        yield f"[dim]preprocessing: {data(cells)}[/]"
    if record.dataset.multi_label:
        yield "multi-label: accuracy is the share of correct decisions over all examples and labels"
    for line in remarks(record.dataset):
        yield f"[yellow]{data(line)}[/]"


def _resumed(at: dict[str, int]) -> str:
    steps = f" and {plural(at['step'], 'step')}" if at["step"] else ""
    return f"resumes in phase {at['phase'] + 1}, after {plural(at['epoch'], 'epoch')}{steps}"


def _results(record: RunRecord) -> Iterator[str]:
    test = "no test split"
    if record.test:
        interval = record.test_interval
        within = "" if interval is None else f" ({interval_text(interval)})"
        loss = written(record.test["loss"])
        test = f"test accuracy {record.test['accuracy']:.2%}{within}, loss {loss}"
    yield f"\n[bold green]{test}[/]"
    if record.test:
        yield from map(data, more_metrics(record).splitlines())
    yield from (f"[yellow]{data(line)}[/]" for line in record.remarks)
    startup = record.seconds.get("startup", 0.0)
    yield f"{record.seconds['total']:.1f} s in total, first training step after {startup:.1f} s"


def show_plan(console: Console, record: RunRecord) -> None:
    """Prints the phases, a table of stages × phases, and the weight counts of each phase.

    The first phase gets a table by stage, later ones a line about the changes, unless the console is
    verbose.

    Args:
        console: Console to print on.
        record: Record whose phases are counted but not run.
    """
    name, source = data(record.backbone.name), data(record.backbone.source)
    loaded = record.backbone.loaded
    weights = "" if loaded is None else f"; {data(loaded)}"
    title = f"[bold]{name}[/] ({source}), {record.dataset.num_classes} classes{weights}\n"
    console.print(title, emoji=False)
    console.print(phases_table(record))
    console.print("\n[bold]stored features[/]\n")
    console.print(features_table(record))
    console.print("\n[bold]trainable parameters[/] (● all, ◐ some, ○ none of the stage)\n")
    console.print(plan_table(record))
    before: PhaseRecord | None = None
    for phase in record.phases:
        title = f"\n{header(phase, len(record.phases))}"
        console.print(title, emoji=False)
        if before is None or isinstance(console, VerboseConsole):
            console.print(counts_table(phase))
        console.print(f"  {counts_line(phase, before)}", emoji=False)
        before = phase


def show_check(console: Console, record: RunRecord) -> None:
    """Prints the results of one step of each phase."""
    console.print(results_table(record))
    console.print("\n[bold green]check passed[/]: one step of each phase; nothing was written")

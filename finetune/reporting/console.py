"""The terminal: phase headers with counts, one progress bar for the run, one line an epoch.

Where output is no terminal there is no bar, only the lines. `NO_COLOR` is honoured by rich.
"""

from collections.abc import Iterator
from pathlib import Path

from rich import markup
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from finetune.printable import printable
from finetune.record import DatasetRecord, MetricRow, PhaseRecord, RunRecord
from finetune.reporting.tables import (
    counts_table,
    features_table,
    more_metrics,
    phases_table,
    plan_table,
    results_table,
)

__all__ = ["Console", "ConsoleListener", "make_console", "show_check", "show_plan"]


def make_console(quiet: bool = False) -> Console:
    """Returns a console on stdout; a quiet one shows nothing."""
    return Console(highlight=False, soft_wrap=False, quiet=quiet)


def _data(text: object) -> str:
    """Returns text that is data for use in markup: shown as it is, and not obeyed."""
    return markup.escape(printable(text))


class ConsoleListener:
    """Prints a run as it goes.

    Args:
        console: where to.
        directory: the run directory, named at the end.
        num_steps: optimizer updates of an epoch.
        num_epochs: of the whole schedule.
    """

    def __init__(self, console: Console, directory: Path, num_steps: int, num_epochs: int) -> None:
        self._console = console
        self._directory = directory
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._num_steps, self._num_epochs = num_steps, num_epochs
        self._planned_steps = 0
        self._task: TaskID | None = None

    def run_started(self, record: RunRecord) -> None:
        """Prints backbone, dataset and device; starts the bar."""
        splits = ", ".join(f"{name} {number}" for name, number in record.dataset.splits.items())
        device = record.device
        names = ", ".join(device["names"])
        self._print(
            f"[bold]{_data(record.backbone.name)}[/] ({_data(record.backbone.source)}) on "
            f"[bold]{_data(record.dataset.name)}[/]: {record.dataset.num_classes} classes, "
            f"{splits}; {_data(names)}, {device['precision']}, seed {record.seed}"
        )
        if record.backbone.preprocessing:
            cells = ", ".join(
                f"{k.replace('_', ' ')} {v}" for k, v in record.backbone.preprocessing.items()
            )
            self._print(f"[dim]preprocessing: {_data(cells)}[/]")
        for line in _left_out(record.dataset):
            self._print(f"[yellow]{_data(line)}[/]")
        self._console.print()
        self._console.print(features_table(record))
        if record.resumed:
            at = record.resumed[-1]
            self._print(
                f"goes on in phase {at['phase'] + 1}, after {at['epoch']} epochs"
                + (f" and {at['step']} steps" if at["step"] else "")
            )
        ended = [phase for phase in record.phases if phase.frozen_proof is not None]
        self._planned_steps = self._num_steps * sum(phase.epochs_planned for phase in ended)
        self._progress.start()
        total = self._num_steps * self._num_epochs
        self._task = self._progress.add_task("", total=total, rate="")

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Prints the phase's header and its weight counts (weights / parameters)."""
        self._print(
            f"\n[bold]phase {phase.index + 1}: {_data(phase.name)}[/]  "
            f"{_data(phase.policy)}, {phase.epochs_planned} epochs, BatchNorm {phase.batch_norm}"
        )
        self._console.print(counts_table(phase))

    def extracting(self, what: str, done: int, total: int) -> None:
        """Shows which features are being computed."""
        if self._task is None or self._progress.disable:
            return
        of = f" {done}/{total}" if total else ""
        self._progress.update(self._task, description=f"features of {printable(what)}{of}", rate="")

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Moves the bar on."""
        if self._task is None or self._progress.disable:
            return
        self._progress.update(
            self._task,
            completed=self._planned_steps + phase.epochs_run * num_steps + step + 1,
            description=f"{printable(phase.name)} epoch {phase.epochs_run + 1}/{phase.epochs_planned}",
            rate=f"loss {logs.get('loss', float('nan')):.4f}",
        )

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Prints one line."""
        cells = "  ".join(
            f"{row.split} loss {row.loss:.4f} accuracy {row.accuracy:.2%}" for row in rows
        )
        seconds = sum(row.seconds for row in rows)
        self._print(
            f"  epoch {rows[0].epoch + 1:>3}/{phase.epochs_planned}  {cells}  {seconds:.1f} s"
        )

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Prints the proof."""
        self._planned_steps += self._num_steps * phase.epochs_planned
        if phase.features.get("cached"):
            computed = phase.features["samples_extracted"]
            self._print(
                f"  read features of {_data(phase.features['cut'])}: {computed} samples computed, "
                f"{phase.features['seconds']:.1f} s"
            )
        proof = phase.frozen_proof
        if proof is not None:
            self._print(
                f"  {proof.weights_checked} weights held still: {proof.weights_changed} changed"
                + (f"; stopped by {phase.stopped_by}" if phase.stopped_by == "patience" else "")
            )

    def run_ended(self, record: RunRecord) -> None:
        """Prints the results, and where everything is."""
        self._progress.stop()
        self._console.print()
        if record.phases:
            self._console.print(results_table(record))
        where = _data(str(self._directory))
        if record.status == "completed":
            test = "no test split"
            if record.test:
                accuracy, loss = record.test["accuracy"], record.test["loss"]
                test = f"test accuracy {accuracy:.2%}, loss {loss:.4f}"
            self._print(
                f"\n[bold green]{test}[/]; {record.seconds['total']:.1f} s in all, first training "
                f"step after {record.seconds.get('startup', 0.0):.1f} s"
            )
            if record.test:
                self._print("\n".join(map(_data, more_metrics(record).splitlines())))
            self._print(f"record  {where}/run.json\nmodel   {where}/model")
            self._print(f"next    tensorboard --logdir {where}/tensorboard")
        else:
            self._print(f"\n[bold red]{record.status}[/]; what there is: {where}")
            own = record.backbone.source == "own"
            self._print(
                f"go on   {'fit(…, resume=True)' if own else f'python -m finetune resume {where}'}"
            )

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, emoji=False)


def _left_out(dataset: DatasetRecord) -> Iterator[str]:
    """Yields what of the data is not as it should be, counted; the log names the samples."""
    if dataset.skipped:
        counts = ", ".join(f"{split} {n}" for split, n in dataset.skipped["counts"].items())
        yield f"left out, because bad: {counts} (run.json names them)"
    if dataset.repeated:
        counts = ", ".join(f"{n} in {splits}" for splits, n in dataset.repeated.items())
        yield f"the same samples in two splits: {counts}"
    if dataset.ignored:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in dataset.ignored.items())
        yield f"files that are not read: {counts}"


def show_plan(console: Console, record: RunRecord) -> None:
    """Prints the phases, stages × phases, and the weight counts of each phase.

    Args:
        console: where to.
        record: its phases counted, none of them run.
    """
    name, source = _data(record.backbone.name), _data(record.backbone.source)
    title = f"[bold]{name}[/] ({source}), {record.dataset.num_classes} classes\n"
    console.print(title, emoji=False)
    console.print(phases_table(record))
    console.print("\n[bold]stored features[/]\n")
    console.print(features_table(record))
    console.print("\n[bold]parameters that train[/] (● all, ◐ some, ○ none of the stage)\n")
    console.print(plan_table(record))
    for phase in record.phases:
        console.print(
            f"\n[bold]phase {phase.index + 1}: {_data(phase.name)}[/]  weights / parameters",
            emoji=False,
        )
        console.print(counts_table(phase))


def show_check(console: Console, record: RunRecord) -> None:
    """Prints what one step of each phase gave."""
    console.print(results_table(record))
    console.print("\n[bold green]check passed[/]: one step of each phase; nothing was written")

"""The events of a run, and what listens to them."""

from collections.abc import Sequence
from contextlib import ExitStack

from finetune.record.schema import MetricRow, PhaseRecord, RunRecord


class Listener:
    """Base class of everything that follows a run, as `keras.callbacks.Callback` is for `fit`.

    The methods do nothing. A subclass defines those of the events that it needs.
    """

    def run_started(self, record: RunRecord) -> None:
        """Called before the first phase."""

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called after the plan of a phase is applied and its weights are counted."""

    def extracting(self, what: str, done: int, total: int) -> None:
        """Called while features are computed.

        Args:
            what: Split that is read, or what the run waits for.
            done: Rows that are computed.
            total: Rows of the split; 0 while the run waits for another process.
        """

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Called after the optimizer updates of one execution.

        Args:
            phase: Phase that trains.
            epoch: Global number of the epoch, from 0.
            step: Number of the last update in this epoch, from 0.
            num_steps: Updates in one epoch.
            logs: Means of the loss and metrics over the epoch so far.
        """

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Called with the metrics of the training and the validation split."""

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called after the proof of a phase has passed."""

    def run_ended(self, record: RunRecord) -> None:
        """Called when the run ends; `record.status` says whether it completed."""


class Listeners(Listener):
    """Passes each event on to several listeners, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def run_started(self, record: RunRecord) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.run_started(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.phase_started(record, phase)

    def extracting(self, what: str, done: int, total: int) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.extracting(what, done, total)

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.step(phase, epoch, step, num_steps, logs)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.epoch_ended(record, phase, rows)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for listener in self._listeners:
            listener.phase_ended(record, phase)

    def run_ended(self, record: RunRecord) -> None:
        """See `Listener`; every listener is called, even if one of them fails."""
        with ExitStack() as stack:
            for listener in reversed(self._listeners):
                stack.callback(listener.run_ended, record)

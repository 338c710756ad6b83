"""Who hears of a run as it goes."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from finetune.record.schema import MetricRow, PhaseRecord, RunRecord


class Listener(Protocol):
    """What hears of a run as it goes."""

    def run_started(self, record: RunRecord) -> None:
        """Called before the first phase."""

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called once the plan is applied and counted."""

    def extracting(self, what: str, done: int, total: int) -> None:
        """Called while features are computed: rows of a split; a total of 0 is a wait."""

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Called after optimizer updates; `epoch` is global, `step` counts in the epoch."""

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Called with the rows of the training and the validation split."""

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called once the proof holds."""

    def run_ended(self, record: RunRecord) -> None:
        """Called however the run ended; `record.status` says how."""


class Listeners:
    """Passes every event on to several listeners, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def run_started(self, record: RunRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.run_started(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.phase_started(record, phase)

    def extracting(self, what: str, done: int, total: int) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.extracting(what, done, total)

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.step(phase, epoch, step, num_steps, logs)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.epoch_ended(record, phase, rows)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.phase_ended(record, phase)

    def run_ended(self, record: RunRecord) -> None:
        """See `Listener`; all of them hear of it, also where one fails."""
        with ExitStack() as stack:
            for each in reversed(self._listeners):
                stack.callback(each.run_ended, record)

"""What a run has come to: its record, its position, and the checkpoints that hold both."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finetune.errors import ConfigError
from finetune.freezing.plan import FreezePlan
from finetune.record.listener import Listener
from finetune.record.schema import FeatureDecision, MetricRow, PhaseRecord, RunRecord, go_on
from finetune.schedule.phase import Phase
from finetune.training import scaling
from finetune.training.best_epoch import BestEpoch
from finetune.training.bookkeeping import log_epoch, peak_memory_bytes
from finetune.training.interrupt import Interrupt
from finetune.training.keeping import Inside, Keeping, Position, Start, State, prefixed
from finetune.training.live_state import LiveState
from finetune.training.movement import Movement
from finetune.training.phase_data import PhaseData, PhaseDataSource
from finetune.training.programs import Programs

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class InProgress:
    """The phase that is being trained.

    Args:
        phase: of the schedule.
        record: filled as it goes.
        data: what it is fitted on; its model is compiled.
        best: its best epoch so far.
        movement: from where its weights were as it began.
        digest: of all that it holds still, as it began.
        began: on the clock (`time.perf_counter`), the seconds of earlier processes included.
        standardised: whether its head is in standardised coordinates now.
    """

    phase: Phase
    record: PhaseRecord
    data: PhaseData
    best: BestEpoch
    movement: Movement
    digest: str
    began: float
    standardised: bool


class Progress:
    """Notes what happens in a run, and keeps it.

    Args:
        record: what is filled as the run goes.
        listener: hears of it.
        phases: the schedule.
        plans: one for each phase.
        live: all values that training changes.
        programs: the state of standardised heads.
        source: what has been decided about storing features.
        keeping: checkpoints, and the one that the run goes on from; None: none are written.
        started: clock time (`time.time`) of the command's start.
    """

    def __init__(
        self,
        record: RunRecord,
        listener: Listener,
        phases: Sequence[Phase],
        plans: Sequence[FreezePlan],
        live: LiveState,
        programs: Programs,
        source: PhaseDataSource,
        keeping: Keeping | None,
        started: float,
    ) -> None:
        self.record, self.listener = record, listener
        self.position = Position()
        self.interrupt = Interrupt()
        self._phases, self._plans = phases, plans
        self._live, self._programs, self._source = live, programs, source
        self._moved: set[str] = set()
        self._doubtful: Path | None = None  # a checkpoint after which no loss has been seen yet
        self._keeping = keeping
        self._started = started
        self._begun = False

    def begin(self) -> Start | None:
        """Takes up what an earlier process has come to, or keeps that nothing has begun.

        Returns:
            What the run goes on from; None: it begins.

        Raises:
            ConfigError: for a checkpoint of another model, or other phases than those that have run.
        """
        keeping = self._keeping
        start = None if keeping is None else keeping.start
        if start is not None:
            go_on(self.record, start.state.record)
            self.position = start.state.position
            self._require_same_phases()
            self._live.load(start.arrays)
            self._moved = set(start.arrays.get("weights", {}))
            self._programs.load_heads(start.array_part("training", "head"))
            at = {name: getattr(self.position, name) for name in ("phase", "epoch", "step")}
            self.record.resumed.append(at)
            log.info("resumes in phase %d after %d epochs and %d steps", *_counted(at))
            self._doubtful = start.path if self.position.step else None
        self._started -= self.record.seconds.get("total", 0.0)  # of the processes before
        self.record.features = self._source.decisions()  # of the weights as they are now
        if keeping is not None and start is not None and keeping.changed is not None:
            keeping.changed()
            state = replace(start.state, record=self.record, features=self._decided())
            path = keeping.save(state, start.arrays, start.score)
            self._doubtful = path if self.position.step else None
        self._begun = True
        self.listener.run_started(self.record)
        if start is None:
            self.save()  # what has been decided holds from here on
        return start

    def end(self, status: str) -> None:
        """Notes how the run ended; one that was refused has changed nothing and is not noted."""
        if not self._begun:
            return
        self.record.status = status
        self._note_process()
        self.listener.run_ended(self.record)

    def _require_same_phases(self) -> None:
        """Refuses to change what has begun: its name, and what trains and is held in it."""
        ran = [(p.name, p.policy, p.batch_norm) for p in self.record.phases]
        now = [(p.name, str(p.policy), p.batch_norm) for p in self._phases[: len(ran)]]
        if now != ran:
            raise ConfigError(
                "schedule.phases must begin with the phases that have begun, with the same freeze "
                f"and batch_norm: {'; '.join(map(', '.join, ran))}. Received: "
                f"{'; '.join(map(', '.join, now))}. Change what comes after them."
            )

    def save(
        self,
        current: InProgress | None = None,
        *,
        metrics: Mapping[str, np.ndarray] | None = None,
        validated: Mapping[str, float] | None = None,
    ) -> None:
        """Writes a checkpoint.

        Args:
            current: the phase in progress.
            metrics: what its metrics have gathered in an epoch that is not at its end.
            validated: metrics of the validation split with these weights, where they are known.
        """
        if self._keeping is None:
            return
        began = time.perf_counter()
        self._note_process()
        for plan in self._plans[: len(self.record.phases)]:
            self._moved |= set(plan.states) - set(plan.held_weights)
        arrays = self._live.arrays(self._moved)
        training = prefixed(metrics or {}, "metric") | prefixed(self._programs.heads(), "head")
        best: dict[str, np.ndarray] = {}
        inside = None
        if current is not None:
            current.record.seconds = time.perf_counter() - current.began
            training |= prefixed(scaling.state_of(current.data.model), "scale")
            values, best = current.best.state()
            arrays["begun"] = current.movement.begun
            num_steps = current.data.num_steps
            inside = Inside(values, current.digest, num_steps, current.standardised)
        state = State(self.position, self.record, self._decided(), inside)
        arrays |= {"training": training, "best": best}
        path = self._keeping.save(state, arrays, self._score(validated))
        self._doubtful = path if validated is None and current is not None else None
        if metrics is None:  # else it is part of the epoch's own time
            self.add_seconds("saving", time.perf_counter() - began)

    def spoilt(self) -> None:
        """Sets the last checkpoint aside if no loss has been seen since that was finite.

        An update can spoil the weights, finite as they are, before any loss shows it.
        """
        if self._doubtful is not None:
            aside = self._doubtful.with_name(f"{self._doubtful.name}.spoilt")
            log.warning("the loss after checkpoint %s is not finite: it is set aside", aside)
            self._doubtful.rename(aside)

    def _decided(self) -> dict[str, FeatureDecision]:
        return {str(index): each for index, each in self._source.decided().items()}

    @property
    def due_in_epoch(self) -> bool:
        """Whether a checkpoint is due in the midst of an epoch."""
        return self._keeping is not None and self._keeping.due_in_epoch()

    @property
    def due_after_epoch(self) -> bool:
        """Whether a checkpoint is due after an epoch that has just ended."""
        return self._keeping is not None and self._keeping.due_after_epoch()

    def _score(self, metrics: Mapping[str, float] | None) -> float | None:
        """Returns how good a validation was, comparable in all phases; higher is better."""
        if metrics is None:
            return None
        monitors = {phase.monitor for phase in self._phases}
        return metrics["accuracy"] if monitors == {"accuracy"} else -metrics["loss"]

    def extracting(self, what: str, done: int, total: int) -> None:
        """Passes on that features are being computed; raises KeyboardInterrupt if asked to stop."""
        self.listener.extracting(what, done, total)
        self.interrupt.check()

    def note_step(self, current: InProgress, epoch: int, step: int, logs: dict[str, float]) -> None:
        """Notes an optimizer update; `epoch` is global, `step` counts in the epoch from 0."""
        if "startup" not in self.record.seconds:
            self.record.seconds["startup"] = time.time() - self._started
            log.info("first training step after %.1f s", self.record.seconds["startup"])
        self._doubtful = None
        self.listener.step(current.record, epoch, step, current.data.num_steps, logs)

    def note_epoch(
        self,
        current: InProgress,
        epoch: int,
        logs: Mapping[str, float],
        train_seconds: float,
        validation_seconds: float,
    ) -> None:
        """Notes that an epoch and its validation have ended."""
        record = current.record
        record.epochs_run += 1
        self.position = replace(self.position, epoch=epoch + 1, step=0, logs={})
        self.add_seconds("training", train_seconds)
        self.add_seconds("evaluation", validation_seconds)
        rows = [
            MetricRow(
                phase=record.index,
                phase_name=record.name,
                epoch=record.epochs_run - 1,
                global_epoch=epoch,
                split=split,
                learning_rate=max(record.learning_rates.values()),
                loss=logs[f"{prefix}loss"],
                accuracy=logs[f"{prefix}accuracy"],
                seconds=seconds,
            )
            for split, prefix, seconds in (
                ("train", "", train_seconds),
                ("validation", "val_", validation_seconds),
            )
        ]
        record.metrics = {row.split: {"loss": row.loss, "accuracy": row.accuracy} for row in rows}
        log_epoch(record, rows)
        self.record.history += rows
        self.listener.epoch_ended(self.record, record, rows)

    def add_seconds(self, part: str, seconds: float) -> None:
        """Adds to what a part of the run has taken."""
        self.record.seconds[part] = self.record.seconds.get(part, 0.0) + seconds

    def _note_process(self) -> None:
        self.record.seconds["total"] = time.time() - self._started
        peak = max(self.record.peak_memory_bytes, peak_memory_bytes())
        self.record.peak_memory_bytes = peak


def _counted(at: Mapping[str, int]) -> tuple[int, int, int]:
    """Returns the phase, counted from 1, and how many epochs and steps of the next one are done."""
    return at["phase"] + 1, at["epoch"], at["step"]

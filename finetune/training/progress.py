"""What a run has done so far: its record, its position, and the checkpoints that hold both."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from finetune.backbones import HEAD
from finetune.errors import ConfigError, NotFiniteError
from finetune.record.listener import Listener
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord, resume_record
from finetune.schedule.phase import Phase
from finetune.training import scaling
from finetune.training.best_epoch import BestEpoch
from finetune.training.bookkeeping import log_epoch, peak_memory_bytes
from finetune.training.checkpointer import Checkpointer, NoCheckpointer
from finetune.training.checkpoints import Arrays
from finetune.training.interrupt import Interrupt
from finetune.training.monitor import FROM_EVALUATION, Monitor
from finetune.training.movement import Movement
from finetune.training.phase_data import PhaseData
from finetune.training.run_state import PhaseState, Position, ResumePoint, RunState, prefixed
from finetune.training.setup import TrainingSetup
from finetune.training.variables import arrays_of, load_arrays

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CurrentPhase:
    """The phase that trains now.

    Args:
        phase: Its entry in the schedule.
        record: Its record, filled while it trains.
        data: What it trains on; the model in it is compiled.
        monitor: The metric that it monitors.
        best: Its best epoch so far.
        movement: Where its weights were when it started.
        frozen_sha256: Digest, at its start, of all weights that it holds.
        began: When it started (`time.perf_counter`), earlier processes included.
        standardised: Whether the head is in standardised coordinates.
    """

    phase: Phase
    record: PhaseRecord
    data: PhaseData
    monitor: Monitor
    best: BestEpoch
    movement: Movement
    frozen_sha256: str
    began: float
    standardised: bool

    def state(self) -> PhaseState:
        """Returns what a checkpoint says about the phase, apart from arrays."""
        return PhaseState(
            best=self.best.value,
            best_epoch=self.best.best_epoch,
            waited=self.best.waited,
            frozen_sha256=self.frozen_sha256,
            num_steps=self.data.num_steps,
            standardised=self.standardised,
        )

    def require_finite(self, epoch: int, where: str, loss: float) -> None:
        """Stops training before a loss that is not finite spoils what is saved.

        Raises:
            NotFiniteError: If it is not; the message says where, and at which rate.
        """
        if not math.isfinite(loss):
            raise NotFiniteError(
                f"{loss} in phase {self.phase.name}, epoch {epoch}, {where}, at learning rate "
                f"{self.phase.learning_rate:g}",
                f"{self.phase.where}.learning_rate={self.phase.learning_rate / 10:g}",
            )


class RunProgress:
    """Records what happens in a run, tells the listener, and writes checkpoints.

    Args:
        setup: What is trained.
        record: Record of the run, filled while it runs.
        listener: Called at each event.
        checkpointer: Writes checkpoints, and holds the one from which the run resumes.
        started: Clock time (`time.time`) at which the command started.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        record: RunRecord,
        listener: Listener,
        checkpointer: Checkpointer | NoCheckpointer,
        started: float,
    ) -> None:
        self.record, self.listener, self.checkpointer = record, listener, checkpointer
        self.position = Position()
        self.interrupt = Interrupt()
        self._setup = setup
        self._moved: set[str] = set()
        self._started = started
        self._has_begun = False

    def begin(self) -> ResumePoint | None:
        """Resumes from the checkpoint, or writes the first one.

        Returns:
            The point from which the run resumes; None if it starts.

        Raises:
            ConfigError: If the checkpoint is of another model, or phases that have started differ.
        """
        point = self.checkpointer.resume_point
        if point is not None:
            self._resume(point)
        self._started -= self.record.seconds.get("total", 0.0)  # of earlier processes
        self.record.features = self._setup.data.decisions()  # with the weights as they are now
        if point is not None and self.checkpointer.save_changed_config():
            state = replace(point.state, record=self.record, decisions=self._setup.decisions())
            self.checkpointer.save(
                lambda: (state, point.arrays), point.score, unseen=self.position.step > 0
            )
        self._has_begun = True
        self.listener.run_started(self.record)
        if point is None:
            self.save()  # the decisions are final from here on
        return point

    def _resume(self, point: ResumePoint) -> None:
        resume_record(self.record, point.state.record)
        self.position = point.state.position
        self._require_same_phases()
        if point.state.phase is not None:
            self._require_same_goal()
        load_arrays(self._setup.inventory, self._setup.optimizers, point.arrays)
        self._moved = set(point.arrays.get("weights", {}))
        self._setup.steps.load_heads(point.array_part("training", "head"))
        position = self.position
        at = {"phase": position.phase, "epoch": position.epoch, "step": position.step}
        self.record.resumed.append(at)
        log.info(
            "resumes in phase %d after %d epochs and %d steps",
            position.phase + 1,
            position.epoch,
            position.step,
        )

    def end(self, status: str) -> None:
        """Records how the run ended; a run that was refused has changed nothing."""
        if not self._has_begun:
            return
        self.record.status = status
        self._note_process()
        self.listener.run_ended(self.record)

    def _require_same_phases(self) -> None:
        """Refuses another name, policy or batch_norm for a phase that has started."""
        ran = [(p.name, p.policy, p.batch_norm) for p in self.record.phases]
        now = [(p.name, str(p.policy), p.batch_norm) for p in self._setup.phases[: len(ran)]]
        if now != ran:
            raise ConfigError(
                "schedule.phases must start with the phases that have started, with the same freeze "
                f"and batch_norm: {'; '.join(map(', '.join, ran))}. Received: "
                f"{'; '.join(map(', '.join, now))}. Change only the phases after them."
            )

    def _require_same_goal(self) -> None:
        """Refuses another monitor or solver for the phase in progress: its best epoch is kept."""
        record, phase = self.record.phases[-1], self._setup.phases[self.position.phase]
        keys = (
            ("monitor", record.monitor, phase.monitor),
            ("solver", record.solver["name"], phase.solver),
        )
        problems = [
            f"{phase.where}.{key} must stay {was}: phase {phase.name} has started. Received: {now}. "
            f"Resume with {phase.where}.{key}={was}."
            for key, was, now in keys
            if now != was
        ]
        if problems:
            raise ConfigError(problems)

    def save(
        self,
        current: CurrentPhase | None = None,
        *,
        metrics: dict[str, np.ndarray] | None = None,
        validated: Mapping[str, float] | None = None,
    ) -> None:
        """Writes a checkpoint.

        Args:
            current: The phase that trains now; None between two phases.
            metrics: State of the metrics within an epoch that has not ended.
            validated: Metrics of the validation split with these weights, if they are known.
        """
        began = time.perf_counter()
        self._note_process()
        self.checkpointer.save(
            lambda: self._snapshot(current, metrics or {}),
            None if validated is None else self._score(validated),
            unseen=validated is None and current is not None,
        )
        if metrics is None:  # within an epoch, it is part of the epoch's own time
            self.add_seconds("saving", time.perf_counter() - began)

    def _snapshot(
        self, current: CurrentPhase | None, metrics: dict[str, np.ndarray]
    ) -> tuple[RunState, Arrays]:
        setup = self._setup
        for plan in setup.plans[: len(self.record.phases)]:
            self._moved |= set(plan.states) - set(plan.held_weights)
        paths = {
            info.path
            for info in setup.inventory.infos
            if setup.save_all_weights or info.stage == HEAD or info.path in self._moved
        }
        arrays = arrays_of(setup.inventory, setup.optimizers, paths)
        arrays["training"] = prefixed(metrics, "metric") | prefixed(setup.steps.heads(), "head")
        phase = None
        if current is not None:
            current.record.seconds = time.perf_counter() - current.began
            arrays["training"] |= prefixed(scaling.state_of(current.data.model), "scale")
            arrays["best"], arrays["begun"] = current.best.weights, current.movement.begun
            phase = current.state()
        return RunState(self.position, phase, setup.decisions(), self.record), arrays

    def _score(self, metrics: Mapping[str, float]) -> float | None:
        """Returns how good a validation was, comparable over all phases; higher is better.

        None if the monitored metric is not a finite number.
        """
        monitor, *others = self._setup.monitors
        if any(other.name != monitor.name for other in others):
            return -metrics["loss"]
        score = monitor.score(metrics[monitor.name])
        return score if math.isfinite(score) else None

    def extracting(self, what: str, done: int, total: int) -> None:
        """Reports the computation of features; raises KeyboardInterrupt after a signal."""
        self.listener.extracting(what, done, total)
        self.interrupt.check()

    def first_step(self) -> None:
        """Notes the time until the first training step, once."""
        if "startup" not in self.record.seconds:
            self.record.seconds["startup"] = time.time() - self._started
            log.info("first training step after %.1f s", self.record.seconds["startup"])

    def end_epoch(
        self,
        current: CurrentPhase,
        epoch: int,
        logs: Mapping[str, float],
        train_seconds: float,
        validation_seconds: float,
    ) -> bool:
        """Records an epoch and its validation, and writes a checkpoint if one is due.

        Args:
            current: The phase that trains now.
            epoch: Global number of the epoch.
            logs: Metrics of training, and those of validation with the prefix ``val_``.
            train_seconds: Duration of the training steps.
            validation_seconds: Duration of the validation.

        Returns:
            Whether the phase has run out of patience.
        """
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
        name = current.monitor.name
        if name not in FROM_EVALUATION:
            record.metrics["validation"][name] = logs[f"val_{name}"]
            record.monitored.append(logs[f"val_{name}"])
        log_epoch(record, rows)
        self.record.history += rows
        self.listener.epoch_ended(self.record, record, rows)
        stop = current.best.update(epoch, logs)
        is_last = stop or record.epochs_run == current.phase.epochs
        # The checkpoint of the phase follows its last epoch.
        if not is_last and self.checkpointer.due_after_epoch():
            self.save(current, validated=record.metrics["validation"])
        return stop

    def add_seconds(self, part: str, seconds: float) -> None:
        """Adds to the seconds of a part of the run."""
        self.record.seconds[part] = self.record.seconds.get(part, 0.0) + seconds

    def _note_process(self) -> None:
        self.record.seconds["total"] = time.time() - self._started
        peak = max(self.record.peak_memory_bytes, peak_memory_bytes())
        self.record.peak_memory_bytes = peak

"""The phase loop: plan, apply, count, compile, fit, prove, checkpoint; then the test split once.

The trainer knows no terminal and no file format; what listens to a run is handed to it.
"""

import logging
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from finetune.freezing import proof
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import WeightCounts, count
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.freezing.schedule import Phase
from finetune.record import FrozenProof, Listener, MetricRow, PhaseRecord, RunRecord
from finetune.training import checkpoints
from finetune.training.callbacks import BestEpoch, StepReporter
from finetune.training.optimizers import OptimizerGroups, OptimizerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The three splits as the trainer needs them.

    Args:
        training: (first epoch, last epoch exclusive) -> batches of exactly those epochs.
        validation: batches of the validation split.
        test: batches of the test split.
        num_steps: optimizer updates in one epoch.
    """

    training: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    test: tf.data.Dataset
    num_steps: int


class Trainer:
    """Trains one model through a schedule.

    Args:
        inventory: of the task model, whose outputs are logits.
        phases: the schedule, in order.
        plans: one for each phase.
        data: the splits.
        optimizer: settings of every optimizer.
        record: what is filled as the run goes.
        listener: hears of every step, epoch and phase.
        finish: called once with the trained model, layers released, before the run is completed.
        checkpoint_dir: where checkpoints go, or None for none.
        steps_per_execution: optimizer updates for each call into TensorFlow.
        started: clock time (`time.time`) of the command's start.
    """

    def __init__(
        self,
        inventory: Inventory,
        phases: Sequence[Phase],
        plans: Sequence[FreezePlan],
        data: Data,
        optimizer: OptimizerSettings,
        *,
        record: RunRecord,
        listener: Listener,
        finish: Callable[[], object] | None = None,
        checkpoint_dir: Path | None = None,
        steps_per_execution: int = 1,
        started: float | None = None,
    ) -> None:
        self._inventory = inventory
        self._model = inventory.model
        self._phases = list(phases)
        self._plans = list(plans)
        self._data = data
        self._optimizers = OptimizerGroups(optimizer, plans, inventory)
        self._record = record
        self._listener = listener
        self._finish = finish
        self._checkpoint_dir = checkpoint_dir
        self._steps_per_execution = steps_per_execution
        self._started = time.time() if started is None else started
        self._epoch = 0
        self._stepped = False

    def run(self) -> RunRecord:
        """Runs every phase and the test; the model is left with all its layers released.

        Raises:
            FrozenWeightsError: if a weight that a phase holds still has moved.
            TrainingError: on a loss that is not finite.
            KeyboardInterrupt: after the state has been saved.
        """
        status = "failed"
        try:
            self._listener.run_started(self._record)
            for index, (phase, plan) in enumerate(zip(self._phases, self._plans, strict=True)):
                self._run_phase(index, phase, plan)
            began = time.perf_counter()
            results = self._model.evaluate(self._data.test, verbose=0, return_dict=True)
            self._add_seconds("evaluation", time.perf_counter() - began)
            self._record.test = {name: float(value) for name, value in results.items()}
            release(self._inventory)
            if self._finish is not None:
                self._finish()
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            self._checkpoint()
            raise
        finally:
            release(self._inventory)
            self._record.status = status
            self._record.seconds["total"] = time.time() - self._started
            self._record.peak_memory_bytes = _peak_memory_bytes()
            self._listener.run_ended(self._record)
        return self._record

    def _run_phase(self, index: int, phase: Phase, plan: FreezePlan) -> None:
        began = time.perf_counter()
        apply(plan, self._inventory)
        counts = count(plan, self._inventory)
        names = self._inventory.stage_names
        record = phase_record(index, phase, counts, names, plan)
        self._record.phases.append(record)
        self._listener.phase_started(self._record, record)
        _log_counts(phase, counts)
        before = proof.digests(self._inventory.variables, plan.still)
        self._model.compile(
            optimizer=self._optimizers.for_phase(plan, phase.stage_rates(names)),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            steps_per_execution=min(self._steps_per_execution, self._data.num_steps),
        )
        self._fit(phase, plan, record)
        after = proof.digests(self._inventory.variables, plan.still)
        record.frozen_proof = FrozenProof(
            weights_checked=len(before),
            weights_changed=sum(before[path] != after[path] for path in before),
            sha256_before=proof.combine(before),
            sha256_after=proof.combine(after),
        )
        record.seconds = time.perf_counter() - began
        proof.require_unchanged(phase.name, before, after)
        self._checkpoint()
        self._listener.phase_ended(self._record, record)

    def _fit(self, phase: Phase, plan: FreezePlan, record: PhaseRecord) -> None:
        still = set(plan.still)
        best = BestEpoch(phase, self._inventory, [p for p in plan.states if p not in still])
        rates = record.learning_rates

        def on_step(epoch: int, step: int, logs: dict[str, float]) -> None:
            if not self._stepped:
                self._stepped = True
                self._record.seconds["startup"] = time.time() - self._started
                log.info("first training step after %.1f s", self._record.seconds["startup"])
            self._listener.step(record, epoch, step, self._data.num_steps, logs)

        def on_epoch(epoch: int, logs: dict[str, float], train: float, validate: float) -> None:
            record.epochs_run += 1
            self._epoch = epoch + 1
            self._add_seconds("training", train)
            self._add_seconds("evaluation", validate)
            rows = [
                MetricRow(
                    phase=record.index,
                    phase_name=phase.name,
                    epoch=record.epochs_run - 1,
                    global_epoch=epoch,
                    split=split,
                    learning_rate=max(rates.values()),
                    loss=logs[f"{prefix}loss"],
                    accuracy=logs[f"{prefix}accuracy"],
                    seconds=seconds,
                )
                for split, prefix, seconds in (
                    ("train", "", train),
                    ("validation", "val_", validate),
                )
            ]
            record.metrics = {
                row.split: {"loss": row.loss, "accuracy": row.accuracy} for row in rows
            }
            self._listener.epoch_ended(self._record, record, rows)

        first, last = self._epoch, self._epoch + phase.epochs
        self._model.fit(
            self._data.training(first, last),
            validation_data=self._data.validation,
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=self._data.num_steps,
            shuffle=False,  # the data come shuffled
            callbacks=[StepReporter(phase, on_step, on_epoch), best],
            verbose=0,
        )
        record.stopped_by = best.stopped_by
        if phase.restore_best:
            best.restore()
            results = self._model.evaluate(self._data.validation, verbose=0, return_dict=True)
            record.metrics["validation"] = {k: float(v) for k, v in results.items()}
            record.best_epoch = best.best_epoch

    def _add_seconds(self, part: str, seconds: float) -> None:
        self._record.seconds[part] = self._record.seconds.get(part, 0.0) + seconds

    def _checkpoint(self) -> None:
        if self._checkpoint_dir is None:
            return
        state = {"global_epoch": self._epoch, "phases_started": len(self._record.phases)}
        checkpoints.save(self._checkpoint_dir, self._inventory, self._optimizers, state)


def phase_record(
    index: int,
    phase: Phase,
    counts: WeightCounts,
    stage_names: Sequence[str],
    plan: FreezePlan,
) -> PhaseRecord:
    """Returns the record of a phase as it is before its first step."""
    rates = phase.stage_rates(stage_names)
    return PhaseRecord(
        index=index,
        name=phase.name,
        policy=str(phase.rule),
        batch_norm=phase.batch_norm,
        epochs_planned=phase.epochs,
        learning_rates={n: rates[n] for n in stage_names if n not in plan.inactive_stages},
        weight_counts=counts.total,
        stages=[{"name": name, **states} for name, states in counts.stages.items()],
        random_seeds=counts.random_seeds,
    )


def _log_counts(phase: Phase, counts: WeightCounts) -> None:
    for scope, states in [("total", counts.total), *counts.stages.items()]:
        cells = ", ".join(
            f"{state} {states[state]['weights']} weights / {states[state]['parameters']} parameters"
            for state in ("trainable", "frozen", "untrainable")
        )
        log.info("phase %s, %s: %s", phase.name, scope, cells)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

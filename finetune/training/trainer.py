"""The phase loop: plan, apply, count, compile, fit, prove, checkpoint; then the test split once.

The trainer knows no terminal and no file format; what listens to a run is handed to it.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from finetune.features.feeding import Feed
from finetune.freezing import proof
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import count
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.freezing.schedule import Phase
from finetune.record import FrozenProof, Listener, MetricRow, PhaseRecord, RunRecord
from finetune.training import checkpoints
from finetune.training.bookkeeping import log_counts, peak_memory_bytes, phase_record
from finetune.training.callbacks import BestEpoch, Interrupt, StepReporter
from finetune.training.evaluation import Report
from finetune.training.exact import solve
from finetune.training.optimizers import OptimizerSettings
from finetune.training.programs import Programs
from finetune.training.standardise import statistics_of

log = logging.getLogger(__name__)


class Feeds(Protocol):
    """Where the trainer gets what it fits on."""

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> Feed:
        """Returns the feed of a phase whose plan has been applied."""
        ...


@dataclass(frozen=True)
class SameFeed:
    """One feed for every phase: nothing is stored."""

    feed: Feed

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> Feed:
        """See `Feeds`."""
        return self.feed


class Trainer:
    """Trains one model through a schedule.

    Args:
        inventory: of the task model.
        phases: the schedule, in order.
        plans: one for each phase.
        feeds: the splits, stored or computed.
        optimizer: settings of every optimizer.
        programs: compiled steps, those of earlier runs included, and what the model is for.
        record: what is filled as the run goes.
        listener: hears of every step, epoch and phase.
        assess: makes the report of the test split from the model's outputs, in stored order; None:
            the test split is not evaluated.
        finish: called once with the trained model, layers released, before the run is completed.
        checkpoint_dir: where checkpoints go, or None for none.
        standardise: whether linear heads on frozen features train on standardised ones.
        started: clock time (`time.time`) of the command's start.
    """

    def __init__(
        self,
        inventory: Inventory,
        phases: Sequence[Phase],
        plans: Sequence[FreezePlan],
        feeds: Feeds,
        optimizer: OptimizerSettings,
        programs: Programs,
        *,
        record: RunRecord,
        listener: Listener,
        assess: Callable[[np.ndarray], Report] | None = None,
        finish: Callable[[], object] | None = None,
        checkpoint_dir: Path | None = None,
        standardise: bool = True,
        started: float | None = None,
    ) -> None:
        self._inventory = inventory
        self._model = inventory.model
        self._phases = list(phases)
        self._plans = list(plans)
        self._feeds = feeds
        self._programs = programs
        self._optimizers = programs.optimizers(optimizer, plans)
        self._record = record
        self._listener = listener
        self._assess = assess
        self._finish = finish
        self._checkpoint_dir = checkpoint_dir
        self._standardise = standardise
        self._started = time.time() if started is None else started
        self._epoch = 0
        self._stepped = False
        self._interrupt = Interrupt()

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
            feed = None
            with self._interrupt.watched():
                for index, (phase, plan) in enumerate(zip(self._phases, self._plans, strict=True)):
                    feed = self._run_phase(index, phase, plan)
            if feed is not None:
                self._test(feed)
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
            self._record.peak_memory_bytes = peak_memory_bytes()
            self._listener.run_ended(self._record)
        return self._record

    def _test(self, feed: Feed) -> None:
        if self._assess is None or feed.test is None:
            return
        began = time.perf_counter()
        outputs = feed.model.predict(feed.test(), verbose=0)  # type: ignore[arg-type] - says str
        report = self._assess(np.asarray(outputs))
        self._record.test, self._record.test_per_class = report.metrics, report.per_class
        self._add_seconds("evaluation", time.perf_counter() - began)

    def _run_phase(self, index: int, phase: Phase, plan: FreezePlan) -> Feed:
        began = time.perf_counter()
        apply(plan, self._inventory)
        counts = count(plan, self._inventory)
        names = self._inventory.stage_names
        record = phase_record(index, phase, counts, names, plan)
        self._record.phases.append(record)
        self._listener.phase_started(self._record, record)
        log_counts(phase, counts)
        before = proof.digests(self._inventory.variables, plan.still)
        feed = self._feeds.open(index, self._extracting)
        record.features = dict(feed.record)
        self._add_seconds("extraction", record.features.get("seconds", 0.0))
        optimizer = self._optimizers.for_phase(plan, phase.stage_rates(names))
        with self._standardised(feed, plan, phase) as standardised:
            self._programs.compile(
                feed.model,
                optimizer,
                plan=plan,
                steps_per_execution=_whole_executions(feed.num_steps, feed.steps_per_execution),
                standardised=standardised,
            )
            if phase.solver == "lbfgs":
                self._solve(feed, phase, record)
            else:
                self._fit(feed, phase, plan, record)
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
        return feed

    @contextmanager
    def _standardised(self, feed: Feed, plan: FreezePlan, phase: Phase) -> Iterator[bool]:
        """Trains a linear head on standardised features; it is plain again afterwards, always."""
        head, features = feed.head, feed.head_features
        paths = {id(variable): path for path, variable in self._inventory.variables.items()}
        weights = [paths[id(each)] for each in (() if head is None else head.weights)]
        wanted = self._standardise and phase.solver == "gradient"
        if not wanted or head is None or features is None or not plan.trainable >= set(weights):
            yield False
            return
        began = time.perf_counter()
        standardised = self._programs.standardised(head)
        optimizers = [self._optimizers.of_weight(path) for path in weights]
        standardised.enter(statistics_of(features()), *optimizers)
        self._add_seconds("extraction", time.perf_counter() - began)
        try:
            yield True
        finally:
            standardised.fold()

    def _solve(self, feed: Feed, phase: Phase, record: PhaseRecord) -> None:
        """Puts the exact linear head in place; it counts as one epoch."""
        began = time.perf_counter()
        exact = solve(feed)
        record.solver = {
            "name": phase.solver,
            "C": exact.strength,
            "iterations": exact.iterations,
            "seconds": time.perf_counter() - began,
        }
        seconds = [time.perf_counter() - began]
        results = []
        for split in (feed.training(self._epoch, self._epoch + 1), feed.validation()):
            began = time.perf_counter()
            results.append(_evaluate(feed, split))
            seconds.append(time.perf_counter() - began)
        logs = results[0] | {f"val_{name}": value for name, value in results[1].items()}
        self._note_step(record, self._epoch, feed.num_steps - 1, feed.num_steps, logs)
        self._note_epoch(phase, record, self._epoch, logs, seconds[0] + seconds[1], seconds[2])
        record.stopped_by = "optimum"

    def _fit(self, feed: Feed, phase: Phase, plan: FreezePlan, record: PhaseRecord) -> None:
        still = set(plan.still)
        best = BestEpoch(phase, self._inventory, [p for p in plan.states if p not in still])

        def on_step(epoch: int, step: int, logs: dict[str, float]) -> None:
            self._note_step(record, epoch, step, feed.num_steps, logs)

        def on_epoch(epoch: int, logs: dict[str, float], train: float, validate: float) -> None:
            self._note_epoch(phase, record, epoch, logs, train, validate)

        first, last = self._epoch, self._epoch + phase.epochs
        feed.model.fit(
            feed.training(first, last),
            validation_data=feed.validation(),
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=feed.num_steps,
            shuffle=False,  # the data come shuffled
            callbacks=[StepReporter(phase, on_step, on_epoch), best],
            verbose=0,
        )
        record.stopped_by = best.stopped_by
        if phase.restore_best:
            best.restore()
            record.metrics["validation"] = _evaluate(feed, feed.validation())
            record.best_epoch = best.best_epoch

    def _note_step(
        self, record: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        if not self._stepped:
            self._stepped = True
            self._record.seconds["startup"] = time.time() - self._started
            log.info("first training step after %.1f s", self._record.seconds["startup"])
        self._listener.step(record, epoch, step, num_steps, logs)
        self._interrupt.check()

    def _extracting(self, what: str, done: int, total: int) -> None:
        self._listener.extracting(what, done, total)
        self._interrupt.check()

    def _note_epoch(
        self,
        phase: Phase,
        record: PhaseRecord,
        epoch: int,
        logs: dict[str, float],
        train_seconds: float,
        validation_seconds: float,
    ) -> None:
        record.epochs_run += 1
        self._epoch = epoch + 1
        self._add_seconds("training", train_seconds)
        self._add_seconds("evaluation", validation_seconds)
        rows = [
            MetricRow(
                phase=record.index,
                phase_name=phase.name,
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
        self._listener.epoch_ended(self._record, record, rows)

    def _add_seconds(self, part: str, seconds: float) -> None:
        self._record.seconds[part] = self._record.seconds.get(part, 0.0) + seconds

    def _checkpoint(self) -> None:
        if self._checkpoint_dir is None:
            return
        state = {"global_epoch": self._epoch, "phases_started": len(self._record.phases)}
        plans = self._plans[: len(self._record.phases)]
        moved = {path for plan in plans for path in set(plan.states) - set(plan.still)}
        checkpoints.save(self._checkpoint_dir, self._inventory, moved, self._optimizers, state)


def _whole_executions(num_steps: int, wanted: int) -> int:
    """Returns the most steps an execution, up to those wanted, that make up an epoch exactly.

    Keras rounds an epoch up to whole executions, and would take steps from the next one.
    """
    return max(n for n in range(1, min(num_steps, wanted) + 1) if num_steps % n == 0)


def _evaluate(feed: Feed, batches: Any) -> dict[str, float]:
    results = feed.model.evaluate(batches, verbose=0, return_dict=True)
    return {name: float(value) for name, value in results.items()}

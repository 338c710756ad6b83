"""The phase loop: plan, apply, count, compile, fit, prove, checkpoint; then the test split once.

The trainer knows no terminal and no file format; what listens to a run is handed to it. A run that
goes on from a checkpoint takes the same steps that it would have taken.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from finetune.errors import ConfigError, TrainingError
from finetune.features.feeding import Feed
from finetune.freezing import proof
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import count
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.freezing.schedule import Phase
from finetune.record import (
    FeatureDecision,
    FrozenProof,
    Listener,
    MetricRow,
    PhaseRecord,
    RunRecord,
    digest_of,
    go_on,
    to_values,
)
from finetune.training import scaling
from finetune.training.best_epoch import BestEpoch
from finetune.training.bookkeeping import log_counts, peak_memory_bytes, phase_record
from finetune.training.checkpoints import Checkpoint
from finetune.training.evaluation import Report
from finetune.training.exact import solve
from finetune.training.fitting import FitEvents, Unfinished, evaluate, fit, metrics_of
from finetune.training.interrupt import Interrupt, WatchBatches
from finetune.training.keeping import Keeping, Position, part, position_of, prefixed
from finetune.training.live_state import LiveState
from finetune.training.optimizers import OptimizerSettings
from finetune.training.programs import Programs
from finetune.training.standardise import statistics_of

log = logging.getLogger(__name__)


class Feeds(Protocol):
    """Where the trainer gets what it fits on."""

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> Feed:
        """Returns the feed of a phase whose plan has been applied."""
        ...

    def decided(self) -> dict[int, FeatureDecision]:
        """Returns what has been decided about storing features, by index of the phase."""
        ...


@dataclass(frozen=True)
class SameFeed:
    """One feed for every phase: nothing is stored."""

    feed: Feed

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> Feed:
        """See `Feeds`."""
        return self.feed

    def decided(self) -> dict[int, FeatureDecision]:
        """See `Feeds`."""
        return {}


@dataclass(frozen=True, eq=False)
class _Current:
    """The phase in progress; `digest` is that of all it holds still, `began` on the clock."""

    phase: Phase
    record: PhaseRecord
    feed: Feed
    best: BestEpoch
    digest: str
    began: float
    standardised: bool


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
        keeping: checkpoints, and the one that the run goes on from; None: none are written.
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
        keeping: Keeping | None = None,
        standardise: bool = True,
        started: float | None = None,
    ) -> None:
        self._inventory = inventory
        self._phases = list(phases)
        self._plans = list(plans)
        self._feeds = feeds
        self._programs = programs
        self._optimizers = programs.optimizers(optimizer, plans)
        self._record = record
        self._listener = listener
        self._assess = assess
        self._finish = finish
        self._keeping = keeping
        self._start = None if keeping is None else keeping.start
        whole = keeping is not None and keeping.whole
        self._live = LiveState(inventory, self._optimizers, whole)
        self._standardise = standardise
        self._started = time.time() if started is None else started
        self._position = Position()
        self._current: _Current | None = None
        self._interrupt = Interrupt()

    def run(self) -> RunRecord:
        """Runs every phase and the test; the model is left with all its layers released.

        Raises:
            FrozenWeightsError: if a weight that a phase holds still has moved.
            TrainingError: on a loss that is not finite, or too little memory.
            StorageError: for a full disk.
            KeyboardInterrupt: after the state has been saved.
        """
        status = "failed"
        try:
            with self._interrupt.watched():
                self._begin()
                feed = None
                for index in range(self._position.phase, len(self._phases)):
                    with self._memory_named(self._phases[index]):
                        feed = self._run_phase(index)
                self._test(feed)
            release(self._inventory)
            if self._finish is not None:
                self._finish()
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            release(self._inventory)
            self._record.status = status
            self._note_process()
            self._listener.run_ended(self._record)
        return self._record

    def _begin(self) -> None:
        """Takes up what an earlier process has come to, or writes down that nothing has begun."""
        start = self._start
        if start is not None:
            go_on(self._record, start.state["record"])
            self._require_same_phases()
            self._position = position_of(start)
            self._live.load(start.arrays)
            self._programs.load_heads(part(start.arrays.get("training", {}), "head"))
            self._record.resumed.append(
                {k: v for k, v in asdict(self._position).items() if k in ("phase", "epoch", "step")}
            )
            log.info("goes on at %s", self._record.resumed[-1])
        self._started -= self._record.seconds.get("total", 0.0)  # of the processes before
        self._listener.run_started(self._record)
        if start is None:
            self._save()  # what has been decided holds from here on

    def _require_same_phases(self) -> None:
        """Refuses another schedule than the one whose phases have run, in those phases."""
        ran = [phase.name for phase in self._record.phases]
        now = [phase.name for phase in self._phases]
        if now[: len(ran)] != ran:
            raise ConfigError(
                f"schedule.phases must begin with the phases that have run: {', '.join(ran)}. "
                f"Received: {', '.join(now)}. Change what comes after them."
            )

    def _test(self, feed: Feed | None) -> None:
        if self._assess is None or not self._phases:
            return
        if feed is None:  # every phase had ended before
            apply(self._plans[-1], self._inventory)
            feed = self._feeds.open(len(self._plans) - 1, self._extracting)
        if feed.test is None:
            return
        began = time.perf_counter()
        watch = [WatchBatches(self._interrupt)]
        outputs = feed.model.predict(feed.test(), verbose=0, callbacks=watch)  # type: ignore[arg-type]
        report = self._assess(np.asarray(outputs))
        self._record.test, self._record.test_per_class = report.metrics, report.per_class
        self._add_seconds("evaluation", time.perf_counter() - began)

    def _run_phase(self, index: int) -> Feed:
        phase, plan, names = self._phases[index], self._plans[index], self._inventory.stage_names
        start = self._start if self._position.inside else None
        self._start = None
        apply(plan, self._inventory)
        counts = count(plan, self._inventory)
        if start is None:
            self._record.phases.append(phase_record(index, phase, counts, names, plan))
        record = self._record.phases[-1]
        began = time.perf_counter() - record.seconds
        self._listener.phase_started(self._record, record)
        log_counts(phase, counts)
        before = proof.digests(self._inventory.variables, plan.still)
        if start is not None:
            proof.require_same(phase.name, before, start.state["frozen_sha256"])
        feed = self._open(index, record)
        optimizer = self._optimizers.for_phase(plan, phase.stage_rates(names))
        best = BestEpoch(phase, self._inventory, sorted(set(plan.states) - set(plan.still)))
        with self._standardised(feed, plan, phase, start) as standardised:
            digest = proof.combine(before)
            current = _Current(phase, record, feed, best, digest, began, standardised)
            self._current, self._position = current, replace(self._position, inside=True)
            self._programs.compile(
                feed.model,
                optimizer,
                plan=plan,
                steps_per_execution=_whole_executions(feed.num_steps, feed.steps_per_execution),
                standardised=standardised,
            )
            if phase.solver == "gradient":
                self._fit(current, start)
            elif start is None:
                self._solve(current)
        after = proof.digests(self._inventory.variables, plan.still)
        record.frozen_proof = FrozenProof(
            weights_checked=len(before),
            weights_changed=sum(before[path] != after[path] for path in before),
            sha256_before=proof.combine(before),
            sha256_after=proof.combine(after),
        )
        record.seconds = time.perf_counter() - began
        proof.require_unchanged(phase.name, before, after)
        self._current = None
        self._position = Position(phase=index + 1, epoch=self._position.epoch)
        self._save(score=self._score(record.metrics["validation"]))
        self._listener.phase_ended(self._record, record)
        return feed

    def _open(self, index: int, record: PhaseRecord) -> Feed:
        feed = self._feeds.open(index, self._extracting)
        given = dict(feed.record)
        self._add_seconds("extraction", given.get("seconds", 0.0))
        for key in ("samples_extracted", "seconds"):  # of the processes before
            if key in given:
                given[key] += record.features.get(key, 0)
        record.features = given
        return feed

    @contextmanager
    def _standardised(
        self, feed: Feed, plan: FreezePlan, phase: Phase, start: Checkpoint | None
    ) -> Iterator[bool]:
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
        inside = start is not None and start.state["standardised"]
        statistics = standardised.statistics if inside else statistics_of(features())
        slots = [self._optimizers.slots(path) for path in weights]
        standardised.enter(statistics, *slots, inside=inside)
        self._add_seconds("extraction", time.perf_counter() - began)
        try:
            yield True
        finally:
            standardised.fold()

    def _solve(self, current: _Current) -> None:
        """Puts the exact linear head in place; it counts as one epoch."""
        phase, record, feed = current.phase, current.record, current.feed
        began = time.perf_counter()
        exact = solve(feed)
        record.solver = {
            "name": phase.solver,
            "C": exact.strength,
            "iterations": exact.iterations,
            "seconds": time.perf_counter() - began,
        }
        record.stopped_by = "optimum"
        seconds = [time.perf_counter() - began]
        results = []
        epoch = self._position.epoch
        for split in (feed.training(epoch, epoch + 1), feed.validation()):
            began = time.perf_counter()
            results.append(evaluate(feed, split, self._interrupt))
            seconds.append(time.perf_counter() - began)
        logs = results[0] | {f"val_{name}": value for name, value in results[1].items()}
        self._note_step(current, epoch, feed.num_steps - 1, logs)
        self._interrupt.check()
        self._note_epoch(current, epoch, logs, seconds[0] + seconds[1], seconds[2])

    def _fit(self, current: _Current, start: Checkpoint | None) -> None:
        phase, record, feed, best = current.phase, current.record, current.feed, current.best
        unfinished = None
        if start is not None:
            saved = start.arrays.get("training", {})
            best.load(start.state["best"], start.arrays.get("best", {}))
            scaling.load(feed.model, part(saved, "scale"))
            unfinished = self._unfinished(feed, start)
        if not best.out_of_patience:
            first = self._position.epoch
            fit(
                feed,
                phase,
                FitEvents(self._stepped, self._validated_batch, self._epoch_ended),
                self._interrupt,
                first=first,
                last=first + phase.epochs - record.epochs_run,
                unfinished=unfinished,
            )
        record.stopped_by = "patience" if best.out_of_patience else "epochs"
        if phase.restore_best:
            best.restore()
            validation = evaluate(feed, feed.validation(), self._interrupt)
            record.metrics["validation"] = validation
            record.best_epoch = best.best_epoch

    def _unfinished(self, feed: Feed, start: Checkpoint) -> Unfinished | None:
        position = self._position
        if position.step == 0:
            return None
        if start.state["num_steps"] != feed.num_steps:
            log.warning("epoch %d begins anew: its batches are others now", position.epoch)
            return None
        metrics = part(start.arrays.get("training", {}), "metric")
        return Unfinished(position.step, position.logs, metrics)

    def _stepped(self, epoch: int, step: int, logs: dict[str, float]) -> None:
        current = self._in_progress()
        self._note_step(current, epoch, step, logs)
        last = step + 1 == current.feed.num_steps
        due = self._keeping is not None and self._keeping.due_in_epoch()
        if self._interrupt.asked or (due and not last):
            self._save_in_epoch(current, epoch, step + 1, logs)
        self._interrupt.check()

    def _validated_batch(self, epoch: int, logs: dict[str, float]) -> None:
        if self._interrupt.asked:
            current = self._in_progress()
            self._save_in_epoch(current, epoch, current.feed.num_steps, logs)
        self._interrupt.check()

    def _save_in_epoch(
        self, current: _Current, epoch: int, done: int, logs: dict[str, float]
    ) -> None:
        whole = done == current.feed.num_steps
        self._position = replace(self._position, epoch=epoch, step=done, logs=logs if whole else {})
        self._save(metrics={} if whole else metrics_of(current.feed.model))

    def _epoch_ended(
        self, epoch: int, logs: dict[str, float], train: float, validate: float
    ) -> bool:
        current = self._in_progress()
        self._note_epoch(current, epoch, logs, train, validate)
        stop = current.best.update(epoch, logs)
        last = stop or current.record.epochs_run == current.phase.epochs
        due = self._keeping is not None and self._keeping.due_after_epoch()
        if due and not last:  # after the last one comes the phase's
            self._save(score=self._score(current.record.metrics["validation"]))
        return stop

    def _in_progress(self) -> _Current:
        assert self._current is not None  # noqa: S101 - Keras calls back only while fitting
        return self._current

    def _note_step(self, current: _Current, epoch: int, step: int, logs: dict[str, float]) -> None:
        if "startup" not in self._record.seconds:
            self._record.seconds["startup"] = time.time() - self._started
            log.info("first training step after %.1f s", self._record.seconds["startup"])
        self._listener.step(current.record, epoch, step, current.feed.num_steps, logs)

    def _extracting(self, what: str, done: int, total: int) -> None:
        self._listener.extracting(what, done, total)
        self._interrupt.check()

    def _note_epoch(
        self,
        current: _Current,
        epoch: int,
        logs: dict[str, float],
        train_seconds: float,
        validation_seconds: float,
    ) -> None:
        record = current.record
        record.epochs_run += 1
        self._position = replace(self._position, epoch=epoch + 1, step=0, logs={})
        self._add_seconds("training", train_seconds)
        self._add_seconds("evaluation", validation_seconds)
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
        self._record.history += rows
        self._listener.epoch_ended(self._record, record, rows)

    def _add_seconds(self, part: str, seconds: float) -> None:
        self._record.seconds[part] = self._record.seconds.get(part, 0.0) + seconds

    def _note_process(self) -> None:
        self._record.seconds["total"] = time.time() - self._started
        peak = max(self._record.peak_memory_bytes, peak_memory_bytes())
        self._record.peak_memory_bytes = peak

    def _score(self, metrics: dict[str, float]) -> float:
        """Returns how good a validation was, comparable in all phases; higher is better."""
        monitors = {phase.monitor for phase in self._phases}
        return metrics["accuracy"] if monitors == {"accuracy"} else -metrics["loss"]

    def _save(
        self, score: float | None = None, metrics: dict[str, np.ndarray] | None = None
    ) -> None:
        if self._keeping is None:
            return
        self._note_process()
        current, state = self._current, dict[str, Any]()
        training = prefixed(metrics or {}, "metric") | prefixed(self._programs.heads(), "head")
        best: dict[str, np.ndarray] = {}
        if current is not None:
            current.record.seconds = time.perf_counter() - current.began
            training |= prefixed(scaling.state_of(current.feed.model), "scale")
            state["best"], best = current.best.state()
            state |= {"frozen_sha256": current.digest, "num_steps": current.feed.num_steps}
            state["standardised"] = current.standardised
        record = to_values(self._record)
        decided = {str(index): asdict(each) for index, each in self._feeds.decided().items()}
        state |= {"record": record, "config_sha256": digest_of(record["config"])}
        started = self._plans[: len(self._record.phases)]
        moved = {path for plan in started for path in set(plan.states) - set(plan.still)}
        arrays = self._live.arrays(moved) | {"training": training, "best": best}
        self._keeping.save(self._position, arrays, {**state, "features": decided}, score)

    @contextmanager
    def _memory_named(self, phase: Phase) -> Iterator[None]:
        """Says which phase did not fit into memory, and what to do."""
        try:
            yield
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            size = self._record.config.get("dataset", {}).get("batch_size", "?")
            raise TrainingError(
                f"dataset.batch_size must be so small that phase {phase.name} ({phase.rule}) fits "
                f"into memory. Received: {size}, and {str(error).splitlines()[0]}. Use a smaller "
                "dataset.batch_size, dataset.image_size or runtime.precision=mixed_float16, or "
                "unfreeze less."
            ) from error


def _whole_executions(num_steps: int, wanted: int) -> int:
    """Returns the most steps an execution, up to those wanted, that make up an epoch exactly.

    Keras rounds an epoch up to whole executions, and would take steps from the next one.
    """
    return max(n for n in range(1, min(num_steps, wanted) + 1) if num_steps % n == 0)

"""The phase loop: plan, apply, count, compile, fit, prove, checkpoint; then the test split once.

The trainer knows no terminal and no file format; what listens to a run is handed to it. A run that
goes on from a checkpoint takes the same steps that it would have taken.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import tensorflow as tf

from finetune.errors import NotFiniteError, TrainingError
from finetune.evaluation.metrics import Report
from finetune.freezing import proof
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import count
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.record.listener import Listener
from finetune.record.schema import FrozenProof, PhaseRecord, RunRecord
from finetune.schedule.phase import Phase
from finetune.training.best_epoch import BestEpoch
from finetune.training.bookkeeping import log_counts, phase_record
from finetune.training.interrupt import WatchBatches
from finetune.training.keeping import Keeping, Position, Start
from finetune.training.live_state import LiveState
from finetune.training.movement import Movement
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import PhaseData, PhaseDataSource
from finetune.training.phase_fit import PhaseFit
from finetune.training.programs import Programs
from finetune.training.progress import InProgress, Progress
from finetune.training.standardise import statistics_of
from finetune.training.tracing import steps_may_be_traced


class Trainer:
    """Trains one model through a schedule.

    Args:
        inventory: of the task model.
        phases: the schedule, in order.
        plans: one for each phase.
        source: the splits, stored or computed.
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
        source: PhaseDataSource,
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
        self._source = source
        self._programs = programs
        self._optimizers = programs.optimizers(optimizer, plans)
        self._record = record
        self._assess = assess
        self._finish = finish
        self._standardise = standardise
        whole = keeping is not None and keeping.whole
        self._progress = Progress(
            record,
            listener,
            self._phases,
            self._plans,
            LiveState(inventory, self._optimizers, whole),
            programs,
            source,
            keeping,
            time.time() if started is None else started,
        )

    def run(self) -> RunRecord:
        """Runs every phase and the test; the model is left with all its layers released.

        Raises:
            FrozenWeightsError: if a weight that a phase holds still has moved.
            NotFiniteError: on a loss that is not finite.
            TrainingError: for too little memory.
            StorageError: for a full disk.
            KeyboardInterrupt: after the state has been saved.
        """
        status = "failed"
        try:
            with self._progress.interrupt.watched(), steps_may_be_traced():
                start = self._progress.begin()
                data = None
                for index in range(self._progress.position.phase, len(self._phases)):
                    inside = self._progress.position.inside
                    with self._memory_named(self._phases[index]):
                        data = self._run_phase(index, start if inside else None)
                    start = None
                self._test(data)
            release(self._inventory)
            if self._finish is not None:
                began = time.perf_counter()
                self._finish()
                self._progress.add_seconds("saving", time.perf_counter() - began)
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except NotFiniteError:
            self._progress.spoilt()
            raise
        finally:
            release(self._inventory)
            self._progress.end(status)
        return self._record

    def _run_phase(self, index: int, start: Start | None) -> PhaseData:
        phase, plan, names = self._phases[index], self._plans[index], self._inventory.stage_names
        apply(plan, self._inventory)
        counts = count(plan, self._inventory)
        planned = phase_record(index, phase, counts, names, plan)
        if start is None:
            self._record.phases.append(planned)
        record = self._record.phases[-1]
        record.epochs_planned = planned.epochs_planned  # which may be others now
        record.learning_rates = planned.learning_rates
        began = time.perf_counter() - record.seconds
        self._progress.listener.phase_started(self._record, record)
        log_counts(phase, counts)
        before = proof.digests(self._inventory.variables, plan.held_weights)
        within = None if start is None else start.state.inside
        if within is not None:
            proof.require_same(phase.name, before, within.frozen_sha256)
        data = self._open(index, record)
        optimizer = self._optimizers.for_phase(plan, phase.stage_rates(names))
        moving = sorted(set(plan.states) - set(plan.held_weights))
        best = BestEpoch(phase, self._inventory, moving)
        begun = None if start is None else start.arrays.get("begun", {})
        movement = Movement(self._inventory, moving, begun)
        with self._standardised(data, plan, phase, start) as standardised:
            digest = proof.combine(before)
            current = InProgress(phase, record, data, best, movement, digest, began, standardised)
            self._progress.position = replace(self._progress.position, inside=True)
            self._programs.compile(
                data.model,
                optimizer,
                plan=plan,
                steps_per_execution=_whole_executions(data.num_steps, data.steps_per_execution),
                standardised=standardised,
            )
            PhaseFit(current, self._progress).run(start)
        after = proof.digests(self._inventory.variables, plan.held_weights)
        record.frozen_proof = FrozenProof(
            weights_checked=len(before),
            weights_changed=sum(before[path] != after[path] for path in before),
            sha256_before=digest,
            sha256_after=proof.combine(after),
        )
        record.weight_change = movement.by_stage()
        record.seconds = time.perf_counter() - began
        proof.require_unchanged(phase.name, before, after)
        self._progress.position = Position(index + 1, epoch=self._progress.position.epoch)
        self._progress.save(validated=record.metrics["validation"])
        self._progress.listener.phase_ended(self._record, record)
        return data

    def _open(self, index: int, record: PhaseRecord) -> PhaseData:
        data = self._source.open(index, self._progress.extracting)
        given = dict(data.record)
        self._progress.add_seconds("extraction", given.get("seconds", 0.0))
        for key in ("samples_extracted", "seconds"):  # of the processes before
            if key in given:
                given[key] += record.features.get(key, 0)
        record.features = given
        return data

    @contextmanager
    def _standardised(
        self, data: PhaseData, plan: FreezePlan, phase: Phase, start: Start | None
    ) -> Iterator[bool]:
        """Trains a linear head on standardised features; it is plain again afterwards, always.

        A head with a constraint or regularizer, which hold for its plain weights, stays as it is.
        """
        head, features = data.head, data.head_features
        paths = {id(variable): path for path, variable in self._inventory.variables.items()}
        weights = [paths[id(each)] for each in (() if head is None else head.weights)]
        within = None if start is None else start.state.inside
        inside = within is not None and within.standardised
        terms = () if head is None else head.terms
        wanted = inside or (self._standardise and phase.solver == "gradient" and not terms)
        if not wanted or head is None or features is None or not plan.trainable >= set(weights):
            yield False
            return
        began = time.perf_counter()
        standardised = self._programs.standardised(head)
        statistics = standardised.statistics if inside else statistics_of(features())
        slots = [self._optimizers.slots(path) for path in weights]
        standardised.enter(statistics, *slots, inside=inside)
        self._progress.add_seconds("extraction", time.perf_counter() - began)
        try:
            yield True
        finally:
            standardised.fold()

    def _test(self, data: PhaseData | None) -> None:
        if self._assess is None or not self._phases:
            return
        if data is None:  # every phase had ended before
            apply(self._plans[-1], self._inventory)
            data = self._source.open(len(self._plans) - 1, self._progress.extracting)
        if data.test is None:
            return
        began = time.perf_counter()
        watch = [WatchBatches(self._progress.interrupt)]
        outputs = data.model.predict(data.test(), verbose=0, callbacks=watch)  # type: ignore[arg-type]
        report = self._assess(np.asarray(outputs))
        self._record.test, self._record.test_per_class = report.metrics, report.per_class
        self._record.test_details, self._record.test_interval = report.details, report.interval
        self._progress.add_seconds("evaluation", time.perf_counter() - began)

    @contextmanager
    def _memory_named(self, phase: Phase) -> Iterator[None]:
        """Says which phase did not fit into memory, and what to do."""
        try:
            yield
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            size = self._record.config.get("dataset", {}).get("batch_size", "?")
            raise TrainingError(
                f"dataset.batch_size must be so small that phase {phase.name} ({phase.policy}) fits "
                f"into memory. Received: {size}, and {str(error).splitlines()[0]}. Use a smaller "
                "dataset.batch_size, dataset.image_size or runtime.precision=mixed_float16, or "
                "unfreeze less."
            ) from error


def _whole_executions(num_steps: int, wanted: int) -> int:
    """Returns the most steps an execution, up to those wanted, that make up an epoch exactly.

    Keras rounds an epoch up to whole executions, and would take steps from the next one.
    """
    return max(n for n in range(1, min(num_steps, wanted) + 1) if num_steps % n == 0)

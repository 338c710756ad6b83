"""One phase from its plan to its proof."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune.freezing import proof
from finetune.freezing.apply import apply
from finetune.freezing.counts import count
from finetune.record.schema import FrozenProof, PhaseRecord
from finetune.training import scaling
from finetune.training.best_epoch import BestEpoch
from finetune.training.bookkeeping import log_counts, phase_record
from finetune.training.exact import solve
from finetune.training.interrupt import WatchBatches
from finetune.training.movement import Movement
from finetune.training.phase_callback import PartialEpoch, PhaseCallback, require_named
from finetune.training.phase_data import PhaseData
from finetune.training.progress import CurrentPhase, RunProgress
from finetune.training.run_state import PhaseState, Position, ResumePoint
from finetune.training.setup import TrainingSetup
from finetune.training.standardise import statistics_of

log = logging.getLogger(__name__)


class PhaseRun:
    """Applies the plan of a phase, trains it, and proves that the held weights did not change.

    Args:
        setup: What is trained.
        progress: Progress of the run.
        index: Index of the phase.
        resume_point: Point within this phase from which the run resumes; None: it starts.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        progress: RunProgress,
        index: int,
        resume_point: ResumePoint | None,
    ) -> None:
        self._setup, self._progress, self._index = setup, progress, index
        self._phase, self._plan = setup.phases[index], setup.plans[index]
        self._point = resume_point

    def run(self) -> PhaseData:
        """Trains the phase; returns what it was trained on.

        Raises:
            FrozenWeightsError: If a weight that the phase holds has changed.
            NotFiniteError: If a loss is NaN or infinite.
            KeyboardInterrupt: After a signal, once the state is saved.
        """
        setup, progress, plan = self._setup, self._progress, self._plan
        inventory = setup.inventory
        began = time.perf_counter()
        record = self._begin()
        began -= record.seconds  # of earlier processes
        before = proof.digests(inventory.variables, plan.held_weights)
        state = self._state
        if state is not None:
            proof.require_same(self._phase.name, before, state.frozen_sha256)
        data = self._open(record)
        optimizer = setup.optimizers.for_phase(plan, self._phase.stage_rates(inventory.stage_names))
        monitor = setup.monitors[self._index]
        moving = sorted(set(plan.states) - set(plan.held_weights))
        begun = None if self._point is None else self._point.arrays.get("begun", {})
        movement = Movement(inventory, moving, begun)  # in plain coordinates
        with self._standardised(data) as is_standardised:
            current = CurrentPhase(
                phase=self._phase,
                record=record,
                data=data,
                monitor=monitor,
                best=BestEpoch(self._phase, monitor, inventory, moving),
                movement=movement,
                frozen_sha256=proof.combine(before),
                began=began,
                standardised=is_standardised,
            )
            setup.steps.compile(
                data.model,
                optimizer,
                plan=plan,
                steps_per_execution=_whole_executions(data.num_steps, data.steps_per_execution),
                standardised=is_standardised,
            )
            if self._phase.solver == "gradient":
                self._fit(current)
            else:
                self._solve(current)
        after = proof.digests(inventory.variables, plan.held_weights)
        record.frozen_proof = FrozenProof(
            weights_checked=len(before),
            weights_changed=sum(before[path] != after[path] for path in before),
            sha256_before=current.frozen_sha256,
            sha256_after=proof.combine(after),
        )
        record.weight_change = movement.by_stage()
        record.seconds = time.perf_counter() - began
        proof.require_unchanged(self._phase.name, before, after)
        progress.position = Position(self._index + 1, epoch=progress.position.epoch)
        progress.save(validated=record.metrics["validation"])
        progress.listener.phase_ended(progress.record, record)
        return data

    @property
    def _state(self) -> PhaseState | None:
        return None if self._point is None else self._point.state.phase

    def _begin(self) -> PhaseRecord:
        """Applies and counts the plan."""
        inventory, run = self._setup.inventory, self._progress.record
        apply(self._plan, inventory)
        counts = count(self._plan, inventory)
        planned = phase_record(self._index, self._phase, counts, inventory.stage_names, self._plan)
        if self._point is None:
            run.phases.append(planned)
        record = run.phases[-1]
        # The settings of a run that resumes with a changed config may differ.
        record.epochs_planned = planned.epochs_planned
        record.learning_rates = planned.learning_rates
        self._progress.listener.phase_started(run, record)
        log_counts(self._phase, counts)
        return record

    def _open(self, record: PhaseRecord) -> PhaseData:
        data = self._setup.data.open(self._index, self._progress.extracting)
        features = dict(data.record)
        self._progress.add_seconds("extraction", features.get("seconds", 0.0))
        for key in ("samples_extracted", "seconds"):  # earlier processes have their share in them
            if key in features:
                features[key] += record.features.get(key, 0)
        record.features = features
        return data

    @contextmanager
    def _standardised(self, data: PhaseData) -> Iterator[bool]:
        """Trains a linear head on standardised features; it always leaves the plain head behind.

        A head with a constraint or a regularizer, which are about its plain weights, stays as it is.
        """
        setup, head, features = self._setup, data.head, data.head_features
        paths = {id(variable): path for path, variable in setup.inventory.variables.items()}
        weights = [paths[id(weight)] for weight in (() if head is None else head.weights)]
        is_inside = self._state is not None and self._state.standardised
        terms = () if head is None else head.terms
        is_wanted = setup.standardise and self._phase.solver == "gradient" and not terms
        can_train = self._plan.trainable >= set(weights)
        if not (is_inside or is_wanted) or head is None or features is None or not can_train:
            yield False
            return
        began = time.perf_counter()
        standardised = setup.steps.standardised(head)
        statistics = standardised.statistics if is_inside else statistics_of(features())
        slots = [setup.optimizers.slots(path) for path in weights]
        standardised.enter(statistics, *slots, inside=is_inside)
        self._progress.add_seconds("extraction", time.perf_counter() - began)
        try:
            yield True
        finally:
            standardised.fold()

    def _solve(self, current: CurrentPhase) -> None:
        """Computes the exact linear head; it counts as one epoch."""
        record, data, epoch = current.record, current.data, self._progress.position.epoch
        began = time.perf_counter()
        exact = solve(data)
        record.solver = {
            "name": self._phase.solver,
            "C": exact.strength,
            "iterations": exact.iterations,
            "seconds": time.perf_counter() - began,
        }
        record.stopped_by = "optimum"
        logs = self._evaluate(data, data.training(epoch, epoch + 1))
        train_seconds = time.perf_counter() - began
        began = time.perf_counter()
        validated = self._validated(current)
        progress = self._progress
        progress.first_step()
        progress.listener.step(record, epoch, data.num_steps - 1, data.num_steps, logs)
        progress.interrupt.check()
        logs |= {f"val_{name}": value for name, value in validated.items()}
        progress.end_epoch(current, epoch, logs, train_seconds, time.perf_counter() - began)

    def _fit(self, current: CurrentPhase) -> None:
        """Takes gradient steps until the last epoch, or until patience has run out."""
        record, data, best = current.record, current.data, current.best
        first = self._progress.position.epoch
        last = first + self._phase.epochs - record.epochs_run
        done = PartialEpoch()
        if self._point is not None and self._state is not None:
            best.load(self._state, self._point.arrays.get("best", {}))
            scaling.load(data.model, self._point.array_part("training", "scale"))
            done = self._partial_epoch(self._point, self._state.num_steps, data.num_steps)
        if done.steps and first < last and not best.out_of_patience:
            if done.steps == data.num_steps:
                self._validate(current, first, done)
            else:
                self._fit_epochs(current, first, first + 1, done)
            first += 1
        if first < last and not best.out_of_patience:
            self._fit_epochs(current, first, last, PartialEpoch())
        record.stopped_by = "patience" if best.out_of_patience else "epochs"
        if self._phase.restore_best:
            self._restore(current)

    def _restore(self, current: CurrentPhase) -> None:
        """Restores the best epoch; the last one is kept if the metric was not defined in any epoch."""
        record, best, monitor = current.record, current.best, current.monitor.name
        if best.best_epoch is None:
            log.warning(
                "phase %s keeps its last epoch: validation %s is not a finite number in any of its "
                "epochs",
                record.name,
                monitor,
            )
            return
        best.restore()
        record.metrics["validation"] = self._validated(current)
        record.best_epoch = best.best_epoch
        log.info(
            "phase %s: restored epoch %d of %d, the best by validation %s",
            record.name,
            best.best_epoch - self._progress.position.epoch + record.epochs_run + 1,
            record.epochs_run,
            monitor,
        )

    def _partial_epoch(self, point: ResumePoint, was: int, num_steps: int) -> PartialEpoch:
        position = self._progress.position
        if position.step and was != num_steps:
            log.warning("epoch %d starts over: its batches have changed", position.epoch)
            return PartialEpoch()
        metrics = point.array_part("training", "metric")
        return PartialEpoch(position.step, position.logs, metrics)

    def _fit_epochs(self, current: CurrentPhase, first: int, last: int, done: PartialEpoch) -> None:
        data = current.data
        if done.metrics:  # Keras creates their variables with the first batch
            data.model.evaluate(data.validation().take(1), verbose=0)  # type: ignore[arg-type]
        data.model.fit(
            data.training(first, last, done.steps),
            validation_data=data.validation(),
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=data.num_steps - done.steps,
            shuffle=False,  # the batches are shuffled already
            callbacks=[PhaseCallback(current, self._progress, done)],
            verbose=0,
        )

    def _validate(self, current: CurrentPhase, epoch: int, done: PartialEpoch) -> None:
        """Ends an epoch of which an earlier process has taken all steps."""
        began = time.perf_counter()
        validated = self._validated(current)
        current.require_finite(epoch, "validation", validated["loss"])
        logs = {**done.logs, **{f"val_{name}": value for name, value in validated.items()}}
        self._progress.end_epoch(current, epoch, logs, 0.0, time.perf_counter() - began)

    def _validated(self, current: CurrentPhase) -> dict[str, float]:
        """Returns the loss and metrics of the validation split, with the monitored metric."""
        values = self._evaluate(current.data, current.data.validation())
        return values | current.monitor.measure(current.data, self._progress.interrupt)

    def _evaluate(self, data: PhaseData, batches: Any) -> dict[str, float]:
        """Returns the loss and metrics of a split."""
        watch = [WatchBatches(self._progress.interrupt)]
        results = data.model.evaluate(batches, verbose=0, return_dict=True, callbacks=watch)
        require_named("test_step", results)
        return {name: float(value) for name, value in results.items()}


def _whole_executions(num_steps: int, wanted: int) -> int:
    """Returns the largest number of steps per execution that divides an epoch, up to `wanted`.

    Keras rounds an epoch up to whole executions, and would take steps from the next epoch.
    """
    return max(n for n in range(1, min(num_steps, wanted) + 1) if num_steps % n == 0)

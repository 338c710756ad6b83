"""One phase in progress: the steps or the solver that train it, and what is kept on the way."""

import logging
import time
from dataclasses import replace

from finetune.training import scaling
from finetune.training.exact import solve
from finetune.training.fitting import FitEvents, Unfinished, evaluate, fit, metrics_of
from finetune.training.keeping import Start
from finetune.training.progress import InProgress, Progress

log = logging.getLogger(__name__)


class PhaseFit:
    """Trains the phase in progress.

    Args:
        current: the phase; its model is compiled.
        progress: of the run.
    """

    def __init__(self, current: InProgress, progress: Progress) -> None:
        self._current, self._progress = current, progress
        self._interrupt = progress.interrupt

    def run(self, start: Start | None) -> None:
        """Trains the phase to its end.

        Args:
            start: what an earlier process has come to in this phase; None: nothing.

        Raises:
            TrainingError: on a loss that is not finite.
            KeyboardInterrupt: after a checkpoint has been written.
        """
        if self._current.phase.solver == "gradient":
            self._fit(start)
        elif start is None:  # else it was solved already
            self._solve()

    def _solve(self) -> None:
        """Puts the exact linear head in place; it counts as one epoch."""
        record, data = self._current.record, self._current.data
        began = time.perf_counter()
        exact = solve(data)
        record.solver = {
            "name": self._current.phase.solver,
            "C": exact.strength,
            "iterations": exact.iterations,
            "seconds": time.perf_counter() - began,
        }
        record.stopped_by = "optimum"
        seconds = [time.perf_counter() - began]
        results = []
        epoch = self._progress.position.epoch
        for split in (data.training(epoch, epoch + 1), data.validation()):
            began = time.perf_counter()
            results.append(evaluate(data, split, self._interrupt))
            seconds.append(time.perf_counter() - began)
        logs = results[0] | {f"val_{name}": value for name, value in results[1].items()}
        self._progress.note_step(self._current, epoch, data.num_steps - 1, logs)
        self._interrupt.check()
        train = seconds[0] + seconds[1]
        self._progress.note_epoch(self._current, epoch, logs, train, seconds[2])

    def _fit(self, start: Start | None) -> None:
        phase, record = self._current.phase, self._current.record
        data, best = self._current.data, self._current.best
        unfinished = None
        if start is not None and start.state.inside is not None:
            best.load(start.state.inside.best, start.arrays.get("best", {}))
            scaling.load(data.model, start.array_part("training", "scale"))
            unfinished = self._unfinished(start, start.state.inside.num_steps)
        if not best.out_of_patience:
            first = self._progress.position.epoch
            fit(
                data,
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
            record.metrics["validation"] = evaluate(data, data.validation(), self._interrupt)
            record.best_epoch = best.best_epoch
            first = self._progress.position.epoch - record.epochs_run
            log.info(
                "phase %s: restored epoch %d of %d, the best by validation %s",
                record.name,
                (best.best_epoch or 0) - first + 1,
                record.epochs_run,
                phase.monitor,
            )

    def _unfinished(self, start: Start, num_steps: int) -> Unfinished | None:
        position = self._progress.position
        if position.step == 0:
            return None
        if num_steps != self._current.data.num_steps:
            log.warning("epoch %d starts over: its batches have changed", position.epoch)
            return None
        return Unfinished(position.step, position.logs, start.array_part("training", "metric"))

    def _stepped(self, epoch: int, step: int, logs: dict[str, float]) -> None:
        self._progress.note_step(self._current, epoch, step, logs)
        last = step + 1 == self._current.data.num_steps
        if self._interrupt.asked or (self._progress.due_in_epoch and not last):
            self._save_in_epoch(epoch, step + 1, logs)
        self._interrupt.check()

    def _validated_batch(self, epoch: int, logs: dict[str, float]) -> None:
        if self._interrupt.asked:
            self._save_in_epoch(epoch, self._current.data.num_steps, logs)
        self._interrupt.check()

    def _save_in_epoch(self, epoch: int, done: int, logs: dict[str, float]) -> None:
        data, whole = self._current.data, done == self._current.data.num_steps
        self._progress.position = replace(
            self._progress.position, epoch=epoch, step=done, logs=logs if whole else {}
        )
        self._progress.save(self._current, metrics={} if whole else metrics_of(data.model))

    def _epoch_ended(
        self, epoch: int, logs: dict[str, float], train: float, validate: float
    ) -> bool:
        current = self._current
        self._progress.note_epoch(current, epoch, logs, train, validate)
        stop = current.best.update(epoch, logs)
        last = stop or current.record.epochs_run == current.phase.epochs
        if self._progress.due_after_epoch and not last:  # after the last one comes the phase's
            self._progress.save(current, validated=current.record.metrics["validation"])
        return stop

"""The one Keras callback of a phase: everything that happens between two calls of `fit`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from finetune.errors import ConfigError
from finetune.freezing.inventory import to_numpy
from finetune.training.progress import CurrentPhase, RunProgress
from finetune.training.variables import assign


@dataclass(frozen=True, eq=False)
class PartialEpoch:
    """The part of an epoch that an earlier process has completed.

    Args:
        steps: Completed optimizer updates.
        logs: Training metrics of the epoch, if all updates are completed.
        metrics: State of the model's metrics, if they are not.
    """

    steps: int = 0
    logs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)


class PhaseCallback(keras.callbacks.Callback):
    """Checks each loss, tells the listener, times epochs, writes checkpoints, and stops training.

    Args:
        current: The phase that is fitted.
        progress: Progress of the run.
        done: Part of the first epoch that is already completed.
    """

    def __init__(self, current: CurrentPhase, progress: RunProgress, done: PartialEpoch) -> None:
        super().__init__()
        self._current, self._progress, self._done = current, progress, done
        self._num_steps = current.data.num_steps
        self._epoch = 0
        self._logs: dict[str, float] = {}
        self._began = self._test_began = time.perf_counter()
        self._validation_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock, and restores the metrics of an epoch that is continued."""
        self._epoch, self._began, self._validation_seconds = epoch, time.perf_counter(), 0.0
        if self._done.metrics:
            assign(_metrics_variables(self._current.data.model), self._done.metrics)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the optimizer updates, and writes a checkpoint if one is due.

        Raises:
            NotFiniteError: If the loss is NaN or infinite.
            KeyboardInterrupt: After a signal, once the state is saved.
        """
        progress, step = self._progress, batch + self._done.steps
        self._logs = {name: float(value) for name, value in (logs or {}).items()}
        require_named("train_step", self._logs)
        self._current.require_finite(self._epoch, f"step {step}", self._logs["loss"])
        progress.first_step()
        progress.checkpointer.loss_seen()
        progress.listener.step(self._current.record, self._epoch, step, self._num_steps, self._logs)
        is_last = step + 1 == self._num_steps
        due = progress.checkpointer.due_in_epoch() and not is_last
        if progress.interrupt.asked or due:
            self._save(step + 1)
        progress.interrupt.check()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the validation's clock."""
        self._test_began = time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises KeyboardInterrupt after a signal, once the state is saved."""
        require_named("test_step", logs or {})
        if self._progress.interrupt.asked:
            self._save(self._num_steps)
        self._progress.interrupt.check()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the validation's clock."""
        self._validation_seconds = time.perf_counter() - self._test_began

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch, and stops training if patience has run out.

        Raises:
            NotFiniteError: If the loss of the validation is NaN or infinite.
        """
        current, ended = self._current, time.perf_counter()
        seconds = ended - self._began - self._validation_seconds
        values = {name: float(value) for name, value in (logs or {}).items()}
        current.require_finite(epoch, "validation", values["val_loss"])
        try:
            monitored = current.monitor.measure(current.data, self._progress.interrupt)
        except KeyboardInterrupt:
            self._save(self._num_steps)
            raise
        values |= {f"val_{name}": value for name, value in monitored.items()}
        validation_seconds = self._validation_seconds + time.perf_counter() - ended
        self._done = PartialEpoch()
        if self._progress.end_epoch(current, epoch, values, seconds, validation_seconds):
            current.data.model.stop_training = True

    def _save(self, done: int) -> None:
        """Writes a checkpoint within the epoch, after that many updates."""
        whole = done == self._num_steps
        self._progress.position = replace(
            self._progress.position,
            epoch=self._epoch,
            step=done,
            logs=self._logs if whole else {},
        )
        metrics = {} if whole else _metrics_variables(self._current.data.model)
        values = {name: to_numpy(variable) for name, variable in metrics.items()}
        self._progress.save(self._current, metrics=values)


def require_named(step: str, logs: Mapping[str, float]) -> None:
    """Refuses a step of the user's own model that does not return what each epoch records.

    Raises:
        ConfigError: If the loss or the accuracy is missing; the message says what is there.
    """
    if not {"loss", "accuracy"} <= logs.keys():
        raise ConfigError(
            f"model.{step} must return loss and accuracy. Received: {', '.join(logs) or 'nothing'}. "
            "Update each of model.metrics in it, and return {name: value} of them, as Keras' own "
            "does: `return self.compute_metrics(x, y, y_pred)`."
        )


def _metrics_variables(model: keras.Model) -> dict[str, Any]:
    return {str(index): variable for index, variable in enumerate(model.metrics_variables)}

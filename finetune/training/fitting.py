"""One phase's gradient steps through Keras' fit, from wherever an earlier process left them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from finetune.errors import ConfigError, NotFiniteError
from finetune.freezing.inventory import to_numpy
from finetune.schedule.phase import Phase
from finetune.training.interrupt import Interrupt, WatchBatches
from finetune.training.live_state import assign
from finetune.training.phase_data import PhaseData


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What is done of an epoch that an earlier process did not finish.

    Args:
        steps: optimizer updates that are done.
        logs: training metrics of the epoch, where all its updates are done.
        metrics: what the model's metrics have gathered, where they are not.
    """

    steps: int
    logs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FitEvents:
    """What is called in one phase's fit; epochs are global, steps count in the epoch from 0.

    Args:
        stepped: (epoch, step, logs) after optimizer updates; logs are means over the epoch so far.
        validated_batch: (epoch, logs of its training) after each batch of a validation.
        epoch_ended: (epoch, logs, training seconds, validation seconds) -> whether to stop.
    """

    stepped: Callable[[int, int, dict[str, float]], None]
    validated_batch: Callable[[int, dict[str, float]], None]
    epoch_ended: Callable[[int, dict[str, float], float, float], bool]


def fit(
    data: PhaseData,
    phase: Phase,
    events: FitEvents,
    interrupt: Interrupt,
    *,
    first: int,
    last: int,
    unfinished: Unfinished | None = None,
) -> None:
    """Fits until the events says stop or the last epoch is done.

    Args:
        data: its model is compiled.
        phase: for messages.
        events: called at every step and epoch.
        interrupt: looked at between the batches of a validation that is made up for.
        first: global number of the first epoch.
        last: the epoch after the last one.
        unfinished: what is done of the first epoch.

    Raises:
        NotFiniteError: on a loss that is not finite.
    """
    if unfinished is not None and first < last:
        if unfinished.steps == data.num_steps:
            stop = _validate(data, phase, events, interrupt, first, unfinished.logs)
        else:
            stop = _fit(data, phase, events, first, first + 1, unfinished)
        if stop:
            return
        first += 1
    if first < last:
        _fit(data, phase, events, first, last, Unfinished(0))


def _fit(
    data: PhaseData, phase: Phase, events: FitEvents, first: int, last: int, done: Unfinished
) -> bool:
    if done.metrics:  # Keras makes their variables with the first batch that they see
        data.model.evaluate(data.validation().take(1), verbose=0)  # type: ignore[arg-type]
    data.model.fit(
        data.training(first, last, done.steps),
        validation_data=data.validation(),
        initial_epoch=first,
        epochs=last,
        steps_per_epoch=data.num_steps - done.steps,
        shuffle=False,  # the data come shuffled
        callbacks=[FitReporter(phase, events, done)],
        verbose=0,
    )
    return bool(data.model.stop_training)


def _validate(
    data: PhaseData,
    phase: Phase,
    events: FitEvents,
    interrupt: Interrupt,
    epoch: int,
    logs: Mapping[str, float],
) -> bool:
    """Ends an epoch whose steps are all done."""
    began = time.perf_counter()
    values = evaluate(data, data.validation(), interrupt)
    require_finite(phase, epoch, "validation", values["loss"])
    ended = {**logs, **{f"val_{name}": value for name, value in values.items()}}
    return events.epoch_ended(epoch, ended, 0.0, time.perf_counter() - began)


def evaluate(data: PhaseData, batches: Any, interrupt: Interrupt) -> dict[str, float]:
    """Returns the loss and metrics of a split."""
    watch = [WatchBatches(interrupt)]
    results = data.model.evaluate(batches, verbose=0, return_dict=True, callbacks=watch)
    require_named("test_step", results)
    return {name: float(value) for name, value in results.items()}


class FitReporter(keras.callbacks.Callback):
    """Passes on what happens in a fit, times it, and stops at a loss that is not finite.

    Args:
        phase: for messages.
        events: called then.
        done: of the first epoch, before.
    """

    def __init__(self, phase: Phase, events: FitEvents, done: Unfinished) -> None:
        super().__init__()
        self._phase, self._events = phase, events
        self._done = done
        self._epoch = 0
        self._logs: dict[str, float] = {}
        self._began = self._test_began = time.perf_counter()
        self._validation_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock; in an epoch that goes on, puts its metrics back."""
        self._epoch, self._began, self._validation_seconds = epoch, time.perf_counter(), 0.0
        if self._done.metrics:
            assert self.model is not None  # noqa: S101 - for the type checker
            load_metrics(self.model, self._done.metrics)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the step; raises NotFiniteError on a loss that is NaN or infinite."""
        self._logs = {name: float(value) for name, value in (logs or {}).items()}
        require_named("train_step", self._logs)
        step = batch + self._done.steps
        require_finite(self._phase, self._epoch, f"step {step}", self._logs.get("loss", 0.0))
        self._events.stepped(self._epoch, step, self._logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the validation's clock."""
        self._test_began = time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Passes the batch on."""
        require_named("test_step", logs or {})
        self._events.validated_batch(self._epoch, self._logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the validation's clock."""
        self._validation_seconds = time.perf_counter() - self._test_began

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the epoch; raises NotFiniteError on a validation loss that is not finite."""
        seconds = time.perf_counter() - self._began - self._validation_seconds
        values = {name: float(value) for name, value in (logs or {}).items()}
        require_finite(self._phase, epoch, "validation", values.get("val_loss", 0.0))
        self._done = Unfinished(0)
        if self._events.epoch_ended(epoch, values, seconds, self._validation_seconds):
            assert self.model is not None  # noqa: S101 - for the type checker
            self.model.stop_training = True


def require_named(step: str, logs: Mapping[str, float]) -> None:
    """Refuses the results of a model's own step without what is recorded of each epoch.

    Raises:
        ConfigError: naming what is there.
    """
    if not {"loss", "accuracy"} <= logs.keys():
        raise ConfigError(
            f"model.{step} must return loss and accuracy. Received: {', '.join(logs) or 'nothing'}. "
            "Update each of model.metrics in it, and return {name: value} of them, as Keras' own "
            "does: `return self.compute_metrics(x, y, y_pred)`."
        )


def require_finite(phase: Phase, epoch: int, where: str, loss: float) -> None:
    """Stops training before a loss that is not finite spoils what is saved.

    Raises:
        NotFiniteError: saying where, at which rate, and what to try.
    """
    if not math.isfinite(loss):
        raise NotFiniteError(
            f"{loss} in phase {phase.name}, epoch {epoch}, {where}, at learning rate "
            f"{phase.learning_rate:g}",
            f"schedule.phases.{phase.name}.learning_rate={phase.learning_rate / 10:g}",
        )


def metrics_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns what the metrics of a compiled model have gathered in this epoch."""
    return {str(i): to_numpy(each) for i, each in enumerate(model.metrics_variables)}


def load_metrics(model: keras.Model, values: Mapping[str, np.ndarray]) -> None:
    """Puts back what `metrics_of` returned."""
    assign({str(i): each for i, each in enumerate(model.metrics_variables)}, values)

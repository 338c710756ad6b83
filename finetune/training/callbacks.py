"""What the trainer hears from Keras' fit: steps, epochs, improvement, and trouble."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from finetune.errors import TrainingError
from finetune.freezing.inventory import Inventory, to_numpy
from finetune.freezing.schedule import Phase


class Interrupt:
    """Ctrl-C, taken at the end of a step: in between, Python may be where it cannot be raised."""

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps the first Ctrl-C for `check`; a second one is raised at once, wherever it comes.

        Where it was ignored (a job in the background), it is still; only the main thread handles it.
        """
        before = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        if not in_main or before is signal.SIG_IGN:
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt


class StepReporter(keras.callbacks.Callback):
    """Passes steps on, times epochs and validations, and stops at a loss that is not finite.

    Args:
        phase: for messages.
        on_step: called with (epoch, step, logs) after each step; epoch is global.
        on_epoch: called with (epoch, logs, training seconds, validation seconds).
    """

    def __init__(
        self,
        phase: Phase,
        on_step: Callable[[int, int, dict[str, float]], None],
        on_epoch: Callable[[int, dict[str, float], float, float], None],
    ) -> None:
        super().__init__()
        self._phase = phase
        self._on_step = on_step
        self._on_epoch = on_epoch
        self._epoch = 0
        self._began = self._test_began = time.perf_counter()
        self._validation_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock."""
        self._epoch, self._began, self._validation_seconds = epoch, time.perf_counter(), 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the step; raises TrainingError on a loss that is NaN or infinite."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(values.get("loss", 0.0)):
            raise TrainingError(
                f"the loss must stay finite. Received: {values['loss']} in phase "
                f"{self._phase.name}, epoch {self._epoch}, step {batch}, at learning rate "
                f"{self._phase.learning_rate:g}. Try "
                f"schedule.phases.{self._phase.name}.learning_rate="
                f"{self._phase.learning_rate / 10:g} or optimizer.clipnorm=1."
            )
        self._on_step(self._epoch, batch, values)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the validation's clock."""
        self._test_began = time.perf_counter()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the validation's clock."""
        self._validation_seconds = time.perf_counter() - self._test_began

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the epoch."""
        seconds = time.perf_counter() - self._began - self._validation_seconds
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._on_epoch(epoch, values, seconds, self._validation_seconds)


class BestEpoch(keras.callbacks.Callback):
    """Follows a phase's monitored metric: stops when patience is out, keeps the best weights.

    Args:
        phase: names the monitor, the patience and whether the best weights are wanted.
        inventory: the weights that are kept.
        moving: paths of the weights that the phase may change.
    """

    def __init__(self, phase: Phase, inventory: Inventory, moving: list[str]) -> None:
        super().__init__()
        self._phase = phase
        self._variables = [inventory.variables[path] for path in moving]
        self._sign = -1.0 if phase.monitor == "loss" else 1.0
        self._best = -math.inf
        self._waited = 0
        self._weights: list[Any] = []
        self.best_epoch: int | None = None
        self.stopped_by = "epochs"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares this epoch with the best so far."""
        value = self._sign * float((logs or {})[f"val_{self._phase.monitor}"])
        if value > self._best:
            self._best, self._waited, self.best_epoch = value, 0, epoch
            if self._phase.restore_best:
                self._weights = [to_numpy(v) for v in self._variables]
            return
        self._waited += 1
        if self._phase.patience is not None and self._waited >= self._phase.patience:
            self.stopped_by = "patience"
            assert self.model is not None  # noqa: S101 - for the type checker
            self.model.stop_training = True

    def restore(self) -> None:
        """Puts the best weights back, where the phase asks for that."""
        for variable, value in zip(self._variables, self._weights, strict=False):
            variable.assign(value)

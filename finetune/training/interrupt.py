"""Handles Ctrl-C and SIGTERM at moments when the state of a run can be saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Remembers Ctrl-C and SIGTERM until the end of a step, since the state is only whole there."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps the first signal for `check`; a second one raises KeyboardInterrupt immediately.

        A signal that the process ignores, as jobs in the background do, stays ignored. Outside of
        the main thread nothing is watched.
        """

        def ask(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                for number in SIGNALS:
                    before = signal.getsignal(number)
                    if before is not signal.SIG_IGN:
                        signal.signal(number, ask)
                        stack.callback(signal.signal, number, before)
            yield

    def check(self) -> None:
        """Raises KeyboardInterrupt after a signal."""
        if self.asked:
            raise KeyboardInterrupt


class WatchBatches(keras.callbacks.Callback):
    """Lets an evaluation or a prediction be interrupted between two batches."""

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__()
        self._interrupt = interrupt

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises KeyboardInterrupt after a signal."""
        self._interrupt.check()

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises KeyboardInterrupt after a signal."""
        self._interrupt.check()

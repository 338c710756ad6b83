"""Ctrl-C and SIGTERM: taken where what has been learned can be saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Ctrl-C and SIGTERM, taken at the end of a step: in between, nothing whole can be saved."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps the first signal for `check`; a second one is raised at once, wherever it comes.

        Where one was ignored (a job in the background), it is still; only the main thread handles
        them.
        """

        def ask(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                for each in SIGNALS:
                    before = signal.getsignal(each)
                    if before is not signal.SIG_IGN:
                        signal.signal(each, ask)
                        stack.callback(signal.signal, each, before)
            yield

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        if self.asked:
            raise KeyboardInterrupt


class WatchBatches(keras.callbacks.Callback):
    """Lets an evaluation or a prediction be interrupted between two batches."""

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__()
        self._interrupt = interrupt

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        self._interrupt.check()

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        self._interrupt.check()

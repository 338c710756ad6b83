"""Interrupts a run at a chosen optimizer update, as Ctrl-C or a cluster would."""

import signal
from contextlib import contextmanager

import pytest

from finetune.training.phase_callback import PhaseCallback


@contextmanager
def stopping_at(number):
    """Sends SIGTERM to this process at the update of this number, from 1, of the runs in the block.

    As under the command line, SIGTERM is heard even if Python was started to ignore it.
    """
    steps = []

    def stop(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == number:
            signal.raise_signal(signal.SIGTERM)
        stepped(self, batch, logs)

    stepped = PhaseCallback.on_train_batch_end
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PhaseCallback, "on_train_batch_end", stop)
            yield
    finally:
        signal.signal(signal.SIGTERM, before)

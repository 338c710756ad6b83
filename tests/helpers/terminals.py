"""A terminal that keeps what is written to it, and a run that is shown on it."""

import io
import sys

from finetune.record.schema import MetricRow
from finetune.reporting.terminal.console import ConsoleListener, make_console
from tests.helpers.records import make_record


class Terminal(io.StringIO):
    """Keeps what is written, and says that it is a terminal."""

    def isatty(self):
        return True


def on_terminal(monkeypatch, width=80, **environment):
    """Makes stdout a terminal.

    Returns:
        (the console that the program makes then, the `Terminal` that keeps its output).
    """
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(width), **environment}.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    return make_console(), out


def played(console, directory, record=None):
    """Plays a run of one phase of two epochs, with stored features, to a console."""
    listener = ConsoleListener(console, directory, 3, [2])
    record = make_record() if record is None else record
    phase = record.phases[0]
    listener.run_started(record)
    listener.phase_started(record, phase)
    listener.extracting("train", 1, 4)
    listener.extracting("validation", 4, 4)
    for epoch in range(2):
        for step in range(3):
            listener.step(phase, epoch, step, 3, {"loss": 0.5})
        rows = [
            MetricRow(0, "head", epoch, epoch, split, 0.1, 0.5, 0.25, 1.0)
            for split in ("train", "validation")
        ]
        listener.epoch_ended(record, phase, rows)
    listener.phase_ended(record, phase)
    record.status = "completed"
    listener.run_ended(record)

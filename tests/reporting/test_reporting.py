"""The console says what the record says."""

import io

import pytest
from rich.console import Console

from finetune.record.schema import MetricRow
from finetune.reporting.terminal.console import ConsoleListener, show_check, show_plan
from tests.record.test_schema import make_record

ROWS = [
    MetricRow(0, "head", 0, 4, "train", 0.1, 0.75, 0.5, 1.0),
    MetricRow(0, "head", 0, 4, "validation", 0.1, 0.5, 0.625, 0.5),
]


def play(listener):
    record = make_record()
    phase = record.phases[0]
    listener.run_started(record)
    listener.phase_started(record, phase)
    listener.step(phase, 4, 0, 3, {"loss": 0.9})
    record.history += ROWS
    listener.epoch_ended(record, phase, ROWS)
    listener.phase_ended(record, phase)
    record.status = "completed"
    listener.run_ended(record)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_reads_as_a_report(tmp_path, terminal):
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, no_color=True, highlight=False)
    play(ConsoleListener(console, tmp_path, 1, [3]))
    text = out.getvalue()
    for words in ("depth(0)", "1 weight held still: 0 changed", "test accuracy 25.00%",
                  "0.7500    50.00%           0.5000    62.50%", "[bold]d[/]", "export"):  # fmt: skip
        assert words in text.replace("\x1b[1m", "").replace("\x1b[0m", ""), words
    if not terminal:
        assert "\x1b" not in text


def test_plan_and_check_tables_fit_80_columns():
    out = io.StringIO()
    console = Console(file=out, width=80)
    show_plan(console, make_record())
    show_check(console, make_record())
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "1 / 2" in out.getvalue()

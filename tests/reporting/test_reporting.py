"""The console shows the contents of the record."""

import io

import pytest
from rich.console import Console

from finetune.reporting.terminal.console import ConsoleListener, show_check, show_plan
from tests.helpers.listeners import play
from tests.helpers.records import make_record


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_reads_as_a_report(tmp_path, terminal):
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, no_color=True, highlight=False)
    play(ConsoleListener(console, tmp_path, 1, [3]))
    text = out.getvalue()
    for words in ("depth(0)", "1 weight held: 0 changed", "test accuracy 25.00%",
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

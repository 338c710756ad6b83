"""Tables at every width: no text is lost, and no number is broken."""

import io

import pytest
from rich.console import Console

from finetune.reporting.terminal.listing import Listing, number, plain, text
from finetune.reporting.terminal.tables import counts_table, plan_table, results_table
from tests.helpers.records import BIG, big_record, make_run


def shown(renderable, width):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100_000])
def test_no_number_is_cut_or_broken(width):
    record = big_record()
    for table in (counts_table(record.phases[0]), results_table(record), plan_table(record)):
        lines = shown(table, width).splitlines()
        assert max(map(len, lines)) <= width
        assert any(f"{BIG:,}" in line for line in lines)
        assert "…" not in "".join(lines)


def test_a_long_name_wraps_and_stays_whole():
    record = big_record(1)
    lines = shown(counts_table(record.phases[0]), 80).splitlines()
    assert [line[:14].rstrip() for line in lines[1:4]] == [
        "hierarchical_e",
        "ncoder_0_with_",
        "a_long_name",
    ]
    assert lines[1].count(f"148 / {BIG:,}") == 3


def test_nothing_wraps_without_a_terminal():
    name = "x" * 500
    assert shown(Listing([text("a"), number("b")], [[name, "1"]]), 100_000).splitlines() == [
        f"a{' ' * 499}  b", f"{name}  1"
    ]  # fmt: skip


def test_columns_that_do_not_fit_go_below_the_others():
    listing = Listing([text("run"), *map(number, ("one", "two", "three"))], [["a", *"1" * 3]])
    assert [line.split() for line in shown(listing, 10).splitlines()] == [
        ["run", "one"], ["a", "1"], [],
        ["run", "two"], ["a", "1"], [],
        ["run", "three"], ["a", "1"],
    ]  # fmt: skip


def test_a_column_wider_than_the_terminal_wraps_and_is_not_cut():
    lines = shown(Listing([text("a"), number("b")], [["x", "1234567890123"]]), 10).splitlines()
    assert "".join(line.split()[-1] for line in lines[1:]) == "1234567890123"


def test_wide_letters_take_two_columns():
    lines = shown(Listing([text("a"), number("b")], [["猫" * 30, "12"]]), 30).splitlines()
    assert "".join(lines).count("猫") == 30 and all(line.count("猫") <= 13 for line in lines)


def test_cells_are_data():
    assert "[red]x[/]" in shown(Listing([text("[b]")], [["[red]x[/]"]]), 80)
    assert plain("\x1b[2J").plain == r"\x1b[2J"


def test_counts_end_with_the_sum_that_keras_calls_non_trainable():
    phase = make_run().phases[1]
    lines = shown(counts_table(phase), 80).splitlines()
    assert lines[0].split() == [
        "stage",
        "rate",
        "trainable",
        "frozen",
        "untrainable",
        "non-trainable",
    ]
    assert lines[1].split()[-3:] == ["2", "/", "100"]  # stem: entirely frozen
    assert lines[2].split()[-3:] == ["2", "/", "40"]  # stage1: its statistics
    assert lines[-1].split()[-3:] == ["4", "/", "140"]
    plan = shown(plan_table(make_run()), 80).splitlines()
    assert plan[-1].split() == ["non-trainable", "6", "/", "2,100", "4", "/", "140"]

"""Numbers are shown short, and never as one that they are not."""

import math

import pytest

from finetune.reporting.numbers import compact, duration, number, percent, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (9949, "9.9 k"), (9951, "10 k"), (999_499, "999 k"),
     (999_500, "1 M"), (1_227_594, "1.2 M"), (7_241_732_096, "7.2 G")],
)  # fmt: skip
def test_counts_are_compact(number, text):
    assert compact(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.25, "0.25 s"), (14.24, "14.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
     (3599.9, "1 h 0 min"), (59.97, "1 min 0 s")],
)  # fmt: skip
def test_durations_are_in_units_that_people_use(seconds, text):
    assert duration(seconds) == text


def test_what_is_no_number_is_a_dash():
    assert number(math.nan) == percent(math.nan) == "–"


def test_numbers_of_other_kinds():
    assert number(1234567) == "1,234,567"
    assert number(0.02154) == "0.0215"
    assert percent(0.9925) == "99.25%"
    assert [size(count) for count in (0, 999, 1024000)] == ["0 bytes", "999 bytes", "1.0 MB"]

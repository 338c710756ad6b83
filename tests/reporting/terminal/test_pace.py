"""The step counter reaches its total in every run, and each phase has its own rate."""

from dataclasses import replace

import pytest

from finetune.reporting.terminal.pace import Pace, RowPace
from tests.helpers.records import make_record


def phase(index, epochs_run, planned=10):
    (made,) = make_record().phases
    return replace(made, index=index, epochs_run=epochs_run, epochs_planned=planned)


def test_steps_of_all_phases_are_counted():
    pace = Pace(5, [10, 2])
    assert (pace.completed, pace.total) == (0, 60)
    pace.step(phase(0, 3), 4, 0.0)
    assert pace.completed == 20
    pace.phase_ended(phase(0, 10))
    pace.step(phase(1, 1), 0, 0.0)
    assert pace.completed == 56


def test_a_phase_that_ends_early_reduces_the_total():
    pace = Pace(5, [10, 2])
    pace.phase_ended(phase(0, 4))
    assert (pace.completed, pace.total) == (20, 30)
    pace.phase_ended(phase(1, 2))
    assert (pace.completed, pace.total) == (30, 30)


def test_a_resumed_run_starts_where_it_stopped():
    pace = Pace(5, [10, 2, 4])
    pace.phase_ended(phase(0, 6))
    pace.step(phase(1, 1), 2, 100.0)
    assert (pace.completed, pace.total) == (38, 60)


def test_the_rate_excludes_the_first_step_of_a_phase():
    pace = Pace(10, [1, 1])
    assert pace.steps_a_second is None
    pace.step(phase(0, 0), 0, 100.0)  # has compiled for 100 s
    assert pace.steps_a_second is None
    pace.step(phase(0, 0), 4, 102.0)  # half a second a step
    assert pace.steps_a_second == pytest.approx(2)


def test_a_phase_has_its_own_rate_after_two_steps():
    pace = Pace(10, [1, 1])
    pace.step(phase(0, 0), 0, 0.0)
    pace.step(phase(0, 0), 9, 9.0)
    pace.phase_ended(phase(0, 1))
    pace.step(phase(1, 0), 0, 20.0)
    assert pace.steps_a_second == pytest.approx(1)
    pace.step(phase(1, 0), 1, 22.0)
    assert pace.steps_a_second == pytest.approx(0.5)


def test_rows_have_a_rate_and_a_time_left():
    rows = RowPace(0, 10.0)
    rows.rows(0, 300, 10.0)
    assert rows.rows_a_second is None and rows.seconds_left(10.0) is None
    rows.rows(100, 300, 12.0)
    assert rows.rows_a_second == pytest.approx(50)
    assert rows.seconds_left(13.0) == pytest.approx(3)

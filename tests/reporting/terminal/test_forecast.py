"""The forecast covers the whole run with compilations and costlier phases, and is never zero."""

import pytest

from finetune.reporting.terminal.forecast import Forecast, PhaseCost, phase_amount

AMOUNTS = {"stem": 10.0, "stage1": 100.0, "head": 1.0}


@pytest.mark.parametrize(
    ("trained", "below", "amount"),
    [
        ({"head": 1.0}, {}, 111 + 1 + 1),  # all forward, back through the head, and its own weights
        ({"head": 1.0}, {"stem": 1.0, "stage1": 1.0}, 3),  # the stages below come from the store
        ({"stage1": 1.0, "head": 1.0}, {"stem": 1.0}, 101 + 101 + 101),
        ({"stage1": 0.5}, {"stem": 0.5}, 5 + 101 + 101 + 50),
        ({"stem": 1.0, "stage1": 1.0, "head": 1.0}, {}, 333),
        ({}, {}, 111),
    ],
)
def test_a_step_costs_what_it_passes(trained, below, amount):
    assert phase_amount(AMOUNTS, trained, below) == amount


def test_there_is_no_forecast_before_anything_is_measured():
    forecast = Forecast(10, 32, [PhaseCost(2)])
    assert forecast.seconds_left(0.0) is None
    forecast.began(0, 0.0)
    assert forecast.seconds_left(5.0) is None


def played(seconds_a_unit, compilations, epochs=(4, 2, 2), works=(1e5, 4e7, 9e7), steps=10):
    """Simulates a run and yields the forecast and the true remaining time at each step.

    The first phase reads features, which were computed by a forward pass of 3e7 multiply-adds.
    """
    samples, extracting = 32, 6.0
    costs = [PhaseCost(e, w, 20.0 * k) for k, (e, w) in enumerate(zip(epochs, works, strict=True))]
    paces = [0.002 + work * samples * seconds_a_unit for work in works]
    end = extracting + 3.0
    end += sum(c + (e * steps - 1) * p for c, e, p in zip(compilations, epochs, paces, strict=True))
    forecast, now = Forecast(steps, samples, costs, prefix=3e7), 0.0
    forecast.began(0, now)
    rate = 1 / (3e7 * seconds_a_unit)
    for _ in range(3):
        now += extracting / 3
        forecast.rows(rate, extracting - now, now)
        yield forecast.seconds_left(now), end - now
    for index, (compilation, pace) in enumerate(zip(compilations, paces, strict=True)):
        if index:
            forecast.began(index, now)
        for fraction in (0.5, 0.99):  # during the compilation
            yield (
                forecast.seconds_left(now + fraction * compilation),
                end - now - fraction * compilation,
            )
        now += compilation
        for done in range(1, epochs[index] * steps + 1):
            now += pace if done > 1 else 0.0
            forecast.step(done, now)
            yield forecast.seconds_left(now), end - now
        forecast.ended(index, epochs[index], now)
    yield forecast.seconds_left(now + 2.9), 0.1
    yield forecast.seconds_left(now + 60), -57.0


@pytest.mark.parametrize("seconds_a_unit", [3e-11, 3e-10, 3e-9])
@pytest.mark.parametrize("compilations", [(1.0, 2.0, 3.0), (3.0, 6.0, 9.0)])
def test_the_forecast_is_about_right_from_the_first_step(seconds_a_unit, compilations):
    said = list(played(seconds_a_unit, compilations))
    assert all(left is not None and left >= 1 for left, _ in said)
    for left, true in said[:-2]:
        assert true / 2 - 2 <= left <= 2 * true + 3


def test_a_compilation_that_takes_longer_than_assumed_leaves_a_rest():
    forecast = Forecast(10, 1, [PhaseCost(1, 0.0, 0.0), PhaseCost(1, 0.0, 100.0)])
    forecast.began(0, 0.0)
    forecast.step(1, 2.0)
    forecast.step(10, 2.9)
    forecast.ended(0, 1, 3.0)
    forecast.began(1, 3.0)
    # the first took 2 s where 1 s was assumed; 1 + 5 s are assumed of this one
    assert forecast.seconds_left(3.0) == pytest.approx(12 + 0.02 + 3)
    assert forecast.seconds_left(9.0) == pytest.approx(6 + 0.02 + 3)
    assert forecast.seconds_left(100.0) == pytest.approx(1.2 + 0.02 + 3)


def test_the_steps_of_a_phase_that_ends_early_leave_the_forecast():
    forecast = Forecast(10, 1, [PhaseCost(100), PhaseCost(1)])
    forecast.began(0, 0.0)
    forecast.step(1, 1.0)
    forecast.step(11, 2.0)
    before = forecast.seconds_left(2.0)
    forecast.ended(0, 2, 2.0)
    after = forecast.seconds_left(2.0)
    assert before is not None and after is not None and after < 10 < before


def test_the_forecast_of_a_resumed_run_covers_only_its_later_phases():
    forecast = Forecast(10, 1, [PhaseCost(1000), PhaseCost(1)])
    forecast.ended(0, 1000, 0.0)
    forecast.began(1, 0.0)
    forecast.step(6, 1.0)
    forecast.step(8, 2.0)
    assert forecast.seconds_left(2.0) == pytest.approx(2 * 0.5 + 3)

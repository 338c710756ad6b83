"""The cost model, by hand."""

import pytest

from finetune.features.planner import Machine, Need, decide

MACHINE = Machine(max_bytes=10**6, free_bytes=10**9, memory_bytes=10**9, bytes_per_second=1e5)


def need(seconds_per_row=0.01, epochs=10, bytes_per_row=100, **more):
    return Need(epochs, 120, 110, bytes_per_row, seconds_per_row, **more)


def test_a_cut_is_stored_where_it_saves_more_than_it_costs():
    # saves 0.01 · 110 · 10 = 11 s; costs 0.01 · 120 = 1.2 s of forward and 12 kB / 1e5 = 0.12 s
    (verdict,) = decide([need()], "auto", MACHINE)
    assert verdict.stored and verdict.reason == "saves time"
    assert verdict.saves_seconds == pytest.approx(11)
    assert verdict.costs_seconds == pytest.approx(1.32)
    (once,) = decide([need(epochs=1)], "auto", MACHINE)  # saves 1.1 s
    assert not once.stored and once.reason == "would cost time"
    assert decide([need(epochs=1)], "always", MACHINE)[0].stored
    assert decide([need(epochs=1, required=True)], "auto", MACHINE)[0].stored


def test_the_deepest_stored_cut_pays_the_pass_and_the_others_what_they_write():
    shallow, deep = need(0.004, epochs=1), need(0.01, epochs=10)
    # alone: saves 0.44, costs 0.48 + 0.12; with the pass paid for by the deep cut only 0.12
    assert not decide([shallow], "auto", MACHINE)[0].stored
    both = decide([shallow, deep], "auto", MACHINE)
    assert [verdict.stored for verdict in both] == [True, True]
    assert both[0].costs_seconds == pytest.approx(0.12)


def test_the_budget_and_the_disk_are_kept():
    # 120 · 5000 = 600 kB each: the second does not fit 1 MB any more
    two = decide([need(0.02, bytes_per_row=5000), need(bytes_per_row=5000)], "always", MACHINE)
    assert [verdict.stored for verdict in two] == [True, False]
    assert two[1].reason == "needs 600.0 kB, features.max_gib leaves 400.0 kB"
    full = Machine(10**9, 10**5, 10**9, 1e5)
    assert "free disk leaves 90.0 kB" in decide([need(bytes_per_row=5000)], "auto", full)[0].reason


def test_what_is_on_disk_costs_nothing():
    verdict = decide([need(0.0, epochs=1, on_disk=True)], "auto", MACHINE)[0]
    assert (verdict.stored, verdict.reason, verdict.costs_seconds) == (True, "on disk already", 0)


def test_features_beyond_memory_are_read_in_every_epoch():
    small = Machine(10**6, 10**9, 10**3, 1e5)
    assert decide([need()], "auto", small)[0].costs_seconds == pytest.approx(1.32 + 10 * 0.12)

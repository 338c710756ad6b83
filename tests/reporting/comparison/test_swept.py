"""Labels of runs: the values that their commands set differently, as short as possible."""

import json
from pathlib import Path

import pytest

from finetune.reporting.comparison.compare import Run, compare
from finetune.reporting.comparison.page import comparison_page
from finetune.reporting.comparison.swept import shortened, value_text
from finetune.reporting.comparison.texts import to_json
from tests.helpers.comparisons import printed, with_phases, words
from tests.helpers.records import make_run

RATE = "schedule.phases.head.learning_rate"


def run(name, *overrides, seed=0, rate=0.01, accuracy=0.9, **changes):
    record = make_run()
    record.config = {**with_phases(head={"epochs": 1, "learning_rate": rate}), "seed": seed}
    record.config.update(changes)
    record.seed, record.overrides = seed, list(overrides)
    record.phases[-1].metrics["validation"]["accuracy"] = accuracy
    record.test["accuracy"] = accuracy - 0.1
    return Run(Path("/runs") / name, record)


def swept_run(name, seed, rate, accuracy=0.9):
    return run(name, "experiment=p", f"seed={seed}", f"{RATE}={rate}", seed=seed, rate=rate,
               accuracy=accuracy)  # fmt: skip


@pytest.fixture
def sweep():
    return [
        swept_run("0", 0, 0.01, 0.90), swept_run("1", 0, 0.003, 0.80),
        swept_run("2", 1, 0.01, 0.94), swept_run("3", 1, 0.003, 0.80),
    ]  # fmt: skip


def test_runs_are_sorted_by_a_swept_value_as_the_table_names_it(sweep):
    rates = [member.record.config["schedule"] for member in compare(sweep, "lr").runs]
    assert rates == [member.record.config["schedule"] for member in compare(sweep, RATE).runs]
    assert rates[0] != rates[-1]


def test_labels_are_the_swept_values(sweep):
    compared = compare(sweep)
    assert compared.labels == (
        "seed=0 lr=0.01", "seed=0 lr=0.003", "seed=1 lr=0.01", "seed=1 lr=0.003",
    )  # fmt: skip
    assert [column.key for column in compared.swept] == ["seed", RATE]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["seed", "dataset.seed"], ["seed", "dataset.seed"]),
        ([RATE, "schedule.phases.top.learning_rate"], ["head.lr", "top.lr"]),
        (["schedule.learning_rate", "head.lr"], ["learning_rate", "lr"]),
        (["a.b.c", "x.b.c", "c"], ["a.b.c", "x.b.c", "c"]),
        (["optimizer.weight_decay"], ["weight_decay"]),
        (["optimizer.name", "dataset.path"], ["optimizer.name", "dataset.path"]),
        (["schedule.phases.head.epochs"], ["head.epochs"]),
        ([], []),
    ],
)
def test_keys_are_shortened_and_stay_distinct(keys, expected):
    assert list(shortened(keys).values()) == expected
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.003, "0.003"), (1e-5, "1e-05"), (True, "true"), (32, "32"), ("x" * 30, "x" * 23 + "…"),
     ("\x1b[2J", r"\x1b[2J")],
)  # fmt: skip
def test_values_are_short_and_on_one_line(value, expected):
    assert value_text(value) == expected


def test_entries_of_groups_and_values_left_out_are_named():
    runs = [
        run("a", "backbone=resnet_mini", "hydra.run.dir=/runs/a"),
        run("b", "backbone=minilm_l6", "+dataset.x=1", "hydra.run.dir=/runs/b"),
    ]
    assert compare(runs).labels == ("backbone=resnet_mini", "backbone=minilm_l6 x=1")


def test_another_spelling_of_a_value_is_no_difference():
    runs = [run("a", f"{RATE}=1e-2", "seed=0"), run("b", f"{RATE}=0.01", "seed=1", seed=1)]
    assert compare(runs).labels == ("seed=0", "seed=1")


def test_equal_labels_get_the_directories_of_the_runs():
    again = [run("a", "seed=0"), run("b", "seed=1", seed=1), run("c", "seed=1", seed=1)]
    assert compare(again).labels == ("seed=0", "seed=1 (b)", "seed=1 (c)")
    assert compare([run("a"), run("b")]).labels == ("a", "b")


def test_without_overrides_the_config_distinguishes_runs():
    assert compare([run("a"), run("b", seed=3)]).labels == ("seed=0", "seed=3")


def test_means_and_deviations_over_seeds(sweep):
    found = compare(sweep).over_seeds
    assert found.labels == ("lr=0.01", "lr=0.003")
    assert found.seeds == ((0, 1), (0, 1))
    spreads = {spread.column.key: spread for spread in found.spreads}
    validation = spreads["validation.accuracy"]
    assert validation.column.values == pytest.approx((0.92, 0.80))
    assert validation.deviations == pytest.approx((0.02 * 2**0.5, 0.0))
    assert validation.column.best == {0}
    assert spreads["test.accuracy"].column.best == frozenset()
    assert "92.00% ± 2.83%" in printed(compare(sweep), 200)


def test_a_group_has_its_completed_runs_and_each_seed_once(sweep):
    sweep[3].record.status = "failed"
    found = compare([*sweep, swept_run("4", 1, 0.01, 0.1)]).over_seeds
    assert found.seeds == ((0, 1), (0,))
    spread = next(spread for spread in found.spreads if spread.column.key == "validation.accuracy")
    assert spread.deviations[1] is None and spread.column.values[0] == pytest.approx(0.92)


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(sweep):
    assert compare([sweep[0], sweep[3]]).over_seeds is None
    other = swept_run("5", 1, 0.01)
    other.record.versions["keras"] = "4"
    assert compare([sweep[0], other]).over_seeds is None


def test_data_and_weights_that_the_seed_draws_are_in_one_group():
    scratch = {"backbone": {"load_weights": False}}
    one, two = run("a", "seed=0", **scratch), run("b", "seed=1", seed=1, **scratch)
    two.record.dataset.fingerprint = two.record.backbone.weights_sha256 = "99" * 32
    assert compare([one, two]).over_seeds.labels == ("all runs",)
    one.record.config["backbone"] = two.record.config["backbone"] = {"load_weights": True}
    assert compare([one, two]).over_seeds is None


def test_a_metric_that_a_run_lacks_has_no_mean(sweep):
    del sweep[0].record.test["accuracy"]
    found = compare(sweep).over_seeds
    spread = next(spread for spread in found.spreads if spread.column.key == "test.accuracy")
    assert spread.column.values == (None, pytest.approx(0.7))


def test_json_has_the_labels_and_means(sweep):
    values = json.loads(to_json(compare(sweep), []))
    assert values["runs"][2]["label"] == "seed=1 lr=0.01"
    first = values["over_seeds"][0]
    assert (first["settings"], first["seeds"]) == ("lr=0.01", [0, 1])
    assert first["mean"]["validation.accuracy"] == pytest.approx(0.92)
    assert first["deviation"]["validation.accuracy"] == pytest.approx(0.0283, abs=1e-4)


def test_the_page_has_swept_values_spreads_and_stars_for_validation(sweep):
    text = comparison_page(compare(sweep))
    shown = words(text)
    assert "run seed lr status" in shown and "2 1 0.01 completed" in shown
    assert "seed=1 lr=0.01" in text[text.index("<svg") :]
    assert "lr=0.01 2" in shown and "92.00% ± 2.83% ★" in shown
    assert "94.00% ★" in shown and "84.00% ★" not in shown  # validation, test


def test_trackers_do_not_distinguish_settings(sweep):
    sweep[0].record.overrides.append("trackers.mlflow=true")
    sweep[0].record.config["trackers"] = {"mlflow": True}
    compared = compare(sweep)
    assert [column.key for column in compared.swept] == ["seed", RATE]
    assert compared.over_seeds is not None
    assert compared.over_seeds.labels == ("lr=0.01", "lr=0.003")
    assert compared.over_seeds.seeds == ((0, 1), (0, 1))

"""Comparisons of two to two hundred records."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.errors import ConfigError
from finetune.reporting.comparison.columns import Column
from finetune.reporting.comparison.compare import Run, compare
from finetune.reporting.comparison.texts import shown, to_csv, to_json
from tests.helpers.comparisons import printed, with_phases
from tests.helpers.records import make_record


def make_run(name, accuracy=0.5, config=None, **changes):
    record = make_record()
    record.config = config or {}
    record.test = {"loss": 1 - accuracy, "accuracy": accuracy}
    record.phases[0].metrics["validation"] = {"loss": 0.5, "accuracy": accuracy}
    record.phases[0].epochs_run = 2
    for key, value in changes.items():
        setattr(record, key, value)
    return Run(Path("/runs") / name, record)


def test_only_config_keys_that_differ_are_shown():
    one = with_phases(head={"epochs": 1, "learning_rate": 0.1})
    other = with_phases(head={"epochs": 2, "learning_rate": 0.1})
    other["dataset"]["splits"]["train"] = "train[:9%]"
    compared = compare([make_run("a", config=one), make_run("b", config=other)])
    assert [(column.key, column.values) for column in compared.config] == [
        ("dataset.splits.train", ("train", "train[:9%]")),
        ("schedule.phases.head.epochs", (1, 2)),
    ]


def test_a_phase_that_some_runs_lack_is_one_column():
    one = with_phases(head={"epochs": 1, "learning_rate": 0.1})
    other = with_phases(
        head={"epochs": 1, "learning_rate": 0.1},
        top={"epochs": 3, "learning_rate": 0.2, "patience": 2},
    )
    compared = compare([make_run("a", config=one), make_run("b", config=other)])
    (column,) = compared.config
    assert column.key == "schedule.phases.top"
    assert column.values == (None, "epochs=3 learning_rate=0.2 patience=2")


def test_keys_that_an_older_version_lacks_have_their_defaults():
    phase = {"epochs": 1, "learning_rate": 0.1, "freeze": {"policy": "none"}}
    old = {"seed": 0, "schedule": {"phases": {"head": phase}}}
    new = with_phases(head={"epochs": 1, "learning_rate": 0.1})
    new["schedule"]["phases"]["head"]["freeze"]["policy"] = "none"
    assert compare([make_run("a", config=old), make_run("b", config=new)]).config == ()


def test_only_the_best_validation_results_are_marked():
    compared = compare([make_run("a", 0.5), make_run("b", 0.75), make_run("c", 0.75)])
    columns = compared.columns
    assert columns["validation.accuracy"].best == {1, 2}
    for key in ("test.accuracy", "test.loss", "status", "epochs", "seconds.total"):
        assert columns[key].best == frozenset(), key
    text = printed(compared)
    assert text.count("* 75.00%") == 2 and text.count("75.00%") == 4


def test_no_value_is_best_if_all_are_equal_or_not_finite():
    assert Column("a", (0.5, 0.5), better="high").best == frozenset()
    assert Column("a", (0.5, None), better="high").best == frozenset()
    assert Column("a", (math.nan, 0.5, 0.25), better="high").best == {1}


def test_a_run_does_not_differ_from_itself():
    run = make_run("a")
    compared = compare([run, run])
    assert (compared.config, compared.identity, compared.warnings) == ((), (), ())
    assert "no differences" in printed(compared)


def test_one_run_alone_is_shown():
    text = printed(compare([make_run("a", 0.25)]))
    assert "1 run in /runs" in text and "25.00%" in text and "differences" not in text


def test_other_data_and_weights_are_a_warning():
    other = make_run("b")
    other.record.dataset.fingerprint = "f" * 64
    other.record.backbone.weights_sha256 = "e" * 64
    compared = compare([make_run("a"), other])
    assert [warning.partition(",")[0] for warning in compared.warnings] == [
        "the runs differ in data", "the runs differ in pretrained weights"
    ]  # fmt: skip
    assert "ffffffff in b" in compared.warnings[0]
    assert [column.key for column in compared.identity] == [
        "backbone.weights_sha256", "dataset.fingerprint"
    ]  # fmt: skip
    assert "warning: the runs differ in data" in printed(compared)


def test_runs_before_their_first_metrics_have_none():
    begun = make_run("b", status="failed", phases=[], test={}, seconds={})
    compared = compare([make_run("a"), begun])
    columns = compared.columns
    assert columns["test.accuracy"].values[1] is columns["validation.loss"].values[1] is None
    assert columns["trainable"].values == (2, None)
    assert columns["epochs"].values == (2, 0)
    assert json.loads(to_json(compared, []))["runs"][1]["results"]["test.accuracy"] is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, ["b", "a", "c"]),
        ("test.accuracy", ["c", "b", "a"]),
        ("test.loss", ["c", "b", "a"]),
        ("seed", ["a", "b", "c"]),
        ("status", ["c", "b", "a"]),
    ],
)
def test_runs_are_sorted_the_best_first(key, expected):
    runs = [
        make_run("b", 0.5, {"seed": 2}, status="failed"),
        make_run("a", 0.25, {"seed": 1}, status="running"),
        make_run("c", 0.75, {"seed": 10}, status="completed"),
    ]
    assert list(compare(runs, key).names) == expected


def test_runs_without_a_value_come_last():
    runs = [make_run("a", test={}), make_run("b", 0.5), make_run("c", 0.75)]
    assert compare(runs, "test.accuracy").names == ("c", "b", "a")


def test_an_unknown_key_to_sort_by_lists_the_valid_ones():
    runs = [make_run("a", config={"seed": 1}), make_run("b", config={"seed": 2})]
    with pytest.raises(ConfigError, match=r"--sort must be a column.*seed.*Did you mean test.acc"):
        compare(runs, "test.accurac")


def test_names_are_the_distinguishing_parts_of_the_directories():
    assert compare([make_run("x/1"), make_run("y/1")]).names == ("x/1", "y/1")
    assert compare([make_run("x/1"), make_run("x/2")]).names == ("1", "2")
    assert compare([make_run("x/1")]).folder == Path("/runs/x")


@pytest.mark.parametrize("width", [40, 80, 100_000])
@pytest.mark.parametrize("number", [2, 200])
def test_hundreds_of_runs_fit_any_width(number, width):
    runs = [make_run(str(n), n / 1000, {"seed": n, "overrides": ["a"]}) for n in range(number)]
    lines = printed(compare(runs), width).splitlines()
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    assert sum("10.00%" in line for line in lines) >= (number == 200)


def test_csv_has_one_line_a_run():
    runs = [make_run("a", 0.5, {"seed": 1}), make_run("b, c", math.nan, {"seed": 2})]
    rows = list(csv.DictReader(io.StringIO(to_csv(compare(runs)))))
    assert [row["directory"] for row in rows] == ["/runs/a", "/runs/b, c"]
    assert [row["seed"] for row in rows] == ["1", "2"]
    assert [row["test.accuracy"] for row in rows] == ["0.5", ""]


def test_json_has_the_phases_and_the_unreadable_runs():
    values = json.loads(to_json(compare([make_run("a", 0.5), make_run("b", 0.75)]), ["no"]))
    assert values["unreadable"] == ["no"]
    assert values["best"] == {"validation.accuracy": [1]}
    (phase,) = values["runs"][0]["phases"]
    assert phase == {"name": "head", "policy": "depth(0)", "epochs_run": 2, "trainable": 2}


def test_names_of_runs_are_data():
    run = make_run("[red]\x1b[2J")
    assert r"[red]\x1b[2J" in printed(compare([run, replace(run, directory=Path("/runs/x"))]))


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, "percent", "–"), (math.nan, "number", "–"), (0.12345, "percent", "12.35%"),
        (0.12345, "number", "0.1235"), (1234567, "count", "1,234,567"), (1e9, "bytes", "1.0 GB"),
        (12.34, "seconds", "12.3"), (True, "text", "true"), (0.001, "text", "0.001"),
    ],
)  # fmt: skip
def test_values_are_written_for_people(value, kind, expected):
    assert shown(value, kind) == expected


def test_metrics_of_plug_ins_are_compared_in_their_direction():
    runs = [make_run(name, directions={"gap": "min"}) for name in ("a", "b")]
    for run, gap in zip(runs, (7.0, 3.0), strict=True):
        run.record.phases[0].metrics["validation"]["gap"] = gap
    column = compare(runs).columns["validation.gap"]
    assert (column.better, column.kind, column.best) == ("low", "number", {1})
    sorted_runs = compare(runs, "validation.gap").runs
    assert [run.directory.name for run in sorted_runs] == ["b", "a"]

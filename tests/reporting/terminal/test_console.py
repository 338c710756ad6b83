"""What a run looks like: on a terminal, in a file, quiet, narrow, without colours."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from finetune.record.schema import MetricRow
from finetune.reporting.terminal.bar import RunBar
from finetune.reporting.terminal.closing import next_commands, places
from finetune.reporting.terminal.console import ConsoleListener, make_console
from finetune.reporting.terminal.forecast import Forecast, PhaseCost
from finetune.reporting.terminal.pace import Pace
from tests.helpers.records import big_record, make_record
from tests.helpers.terminals import on_terminal, played


def test_a_terminal_gets_colours_and_a_bar_that_is_taken_away(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    played(console, tmp_path)
    text = out.getvalue()
    assert "\x1b[32m" in text  # what trains is green
    assert "━" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is given back


def test_no_color_leaves_colours_out_and_the_bar_in(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, NO_COLOR="1")
    played(console, tmp_path)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.getvalue())
    assert "left" in out.getvalue()


@pytest.mark.parametrize("kind", ["dumb", "file"])
def test_elsewhere_there_are_lines_alone(tmp_path, monkeypatch, kind):
    console, out = on_terminal(monkeypatch, TERM="dumb")
    if kind == "file":
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        console = make_console()
    with console.status("loading TensorFlow"):
        pass
    played(console, tmp_path)
    text = out.getvalue()
    assert "\x1b" not in text and "━" not in text and "\r" not in text
    assert len(re.findall(r"^ +[12]/2 .*$", text, re.MULTILINE)) == 2  # one line an epoch
    assert text.count("computing features of 4 samples") == 1


def test_in_a_file_no_line_is_folded(tmp_path, monkeypatch):
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", out)
    record = make_record()
    record.backbone.name, record.phases[0].stages[0]["name"] = "b " * 100, "s " * 100
    played(make_console(), tmp_path, record)
    assert "b " * 100 in out.getvalue() and "s " * 99 in out.getvalue()


def test_a_quiet_console_shows_nothing(tmp_path, monkeypatch):
    _, out = on_terminal(monkeypatch)
    console = make_console(quiet=True)
    with console.status("loading TensorFlow"):
        pass
    played(console, tmp_path)
    assert out.getvalue() == ""


@pytest.mark.parametrize("width", [20, 40, 80])
def test_lines_are_no_wider_than_the_terminal(tmp_path, monkeypatch, width):
    console, out = on_terminal(monkeypatch, width, NO_COLOR="1")
    monkeypatch.setattr(RunBar, "start", lambda bar: None)
    monkeypatch.chdir(tmp_path)
    record = big_record()
    record.device["names"] = ["NVIDIA A100-SXM4-80GB"] * 8
    played(console, tmp_path / "run", record)
    lines = re.sub(r"\x1b\[[0-9]*m", "", out.getvalue()).splitlines()
    assert "8 × NVIDIA A100-SXM4-80GB" in " ".join(" ".join(lines).split()) or width == 20
    # what is to be copied is left whole
    words = [line for line in lines if not line.startswith(("next  ", " " * 11, "record "))]
    assert max(map(len, words)) <= width


def test_an_epoch_is_a_line_that_80_columns_hold(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, TERM="dumb")
    listener = ConsoleListener(console, tmp_path, 3, [1000])
    (phase,) = make_record().phases
    phase.epochs_planned = 1000
    rows = [MetricRow(0, "head", 999, 999, "train", 0.1, 12345.6789, 1.0, 12345.0)] * 2
    listener.epoch_ended(make_record(), phase, rows)
    header, line = out.getvalue().splitlines()
    assert max(len(header), len(line)) <= 80
    assert line.split() == [
        "1000/1000",
        "12345.6789",
        "100.00%",
        "12345.6789",
        "100.00%",
        "24690.0",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_the_bar_is_one_line(monkeypatch, width):
    console, _ = on_terminal(monkeypatch, width)
    bar = RunBar(console, Pace(29_000, [100]), 32.0, Forecast(29_000, 32.0, [PhaseCost(100)]))
    (phase,) = make_record().phases
    name = "猫" * 40
    for each in (replace(phase, name=name), phase):
        bar.phase(each, "starts")
        bar.step(each, 0, 29_000, {"loss": 1234.5678, "accuracy": 1.0})
        bar.step(each, 28_999, 29_000, {"loss": 1234.5678, "accuracy": 1.0})
        bar.rows(1_000_000, 3_000_000)
        plain = Console(file=io.StringIO(), width=width)
        assert len(plain.render_lines(bar.line(), pad=False)) == 1
        (line,) = plain.render_lines(bar.line(), pad=False)
        assert sum(segment.cell_length for segment in line) <= width - len("^C")


def test_what_is_printed_while_the_bar_is_there_stays_whole(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    listener = ConsoleListener(console, tmp_path, 3, [2])
    listener.run_started(make_record())
    print("a line of a library")
    listener.run_ended(make_record())
    assert "a line of a library\n" in out.getvalue()


def test_errors_that_are_sent_elsewhere_stay_there(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    listener = ConsoleListener(console, tmp_path, 3, [2])
    listener.run_started(make_record())
    print("a warning", file=sys.stderr)
    listener.run_ended(make_record())
    assert errors.getvalue() == "a warning\n" and "a warning" not in out.getvalue()


def test_several_labels_say_what_accuracy_is(tmp_path):
    record = make_record()
    record.dataset.multi_label = True
    out = io.StringIO()
    listener = ConsoleListener(Console(file=out, width=80), tmp_path, 3, [2])
    listener.run_started(record)
    assert "accuracy is the share of yes and no that are right" in out.getvalue()


def finished(status="completed", name="digits", overrides=()):
    record = make_record()
    record.status, record.dataset.name, record.overrides = status, name, list(overrides)
    record.backbone.stages = [{"name": "stem"}]
    return record


def still(record):
    nothing = {"weights": 0, "parameters": 0}
    record.phases[0].stages = [{"name": "stem", "trainable": nothing}]
    return record


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (finished(), ["predict 'a b' FILE…", "export 'a b' --format keras"]),
        (finished(name="arrays"), ["evaluate 'a b'", "export 'a b' --format keras"]),
        (
            still(finished(overrides=["experiment=resnet_probe", "schedule.phases.head.epochs=1",
                                      "hydra.run.dir=x", "~schedule.phases.x", "dataset.path=a b"])),
            ["predict 'a b' FILE…", "experiment=resnet_probe 'dataset.path=a b' schedule=progressive"],
        ),
        (finished("interrupted"), ["resume 'a b'", "report 'a b'"]),
    ],
)  # fmt: skip
def test_what_to_try_next_fits_the_run(tmp_path, monkeypatch, record, expected):
    monkeypatch.chdir(tmp_path)
    commands = next_commands(record, tmp_path / "a b")
    assert commands == [f"python -m finetune {each}" for each in expected]


def test_after_a_failure_there_is_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "finetune.log").touch()
    expected = ["python -m finetune resume run", "tail run/finetune.log"]
    assert next_commands(finished("failed"), tmp_path / "run") == expected


def test_a_model_of_ones_own_goes_on_in_python(tmp_path):
    record = finished("interrupted")
    record.backbone.source = "own"
    assert next_commands(record, tmp_path)[0] == "fit(…, resume=True)"


def test_the_suggested_unfreezing_composes():
    from finetune.config.compose import compose_config

    record = still(finished(overrides=["experiment=resnet_probe", "schedule.phases.head.epochs=1"]))
    command = next_commands(record, Path("run"))[1]
    overrides = command.removeprefix("python -m finetune ").split()
    assert compose_config(overrides).schedule.epochs_per_phase == 2


def test_only_what_is_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    for name in ("model", "plots", "checkpoints"):
        (run / name).mkdir(parents=True)
    (run / "run.json").touch()
    expected = [("record", "run/run.json"), ("model", "run/model"), ("pictures", "run/plots")]
    assert list(places(finished(), run)) == expected
    assert ("checkpoints", "run/checkpoints") in list(places(finished("failed"), run))


def test_the_command_that_opens_mlflow_is_printed_with_its_quotes(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, TERM="dumb", NO_COLOR="1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("finetune.reporting.trackers.mlflow.tool", lambda name: name)
    record = make_record()
    record.config = {"trackers": {"mlflow": True, "mlflow_uri": "sqlite:////tmp/my runs.db"}}
    played(console, tmp_path, record)
    assert (
        "mlflow       mlflow ui --backend-store-uri 'sqlite:////tmp/my runs.db'\n" in out.getvalue()
    )


def shown_bar(bar, width):
    plain = Console(file=io.StringIO(), width=width)
    (line,) = plain.render_lines(bar.line(), pad=False)
    return "".join(segment.text for segment in line)


def test_the_bar_shows_loss_accuracy_and_about_how_long_the_run_takes(monkeypatch):
    console, _ = on_terminal(monkeypatch, 80)
    bar = RunBar(console, Pace(10, [2, 2]), 32.0, Forecast(10, 32, [PhaseCost(2), PhaseCost(2)]))
    (phase,) = make_record().phases
    bar.phase_began(phase)
    assert "time left not known" in shown_bar(bar, 80)
    bar.step(phase, 0, 10, {"loss": 0.53281, "accuracy": 0.875})
    line = shown_bar(bar, 80)
    assert line.startswith("head 1/2 ") and "loss 0.5328 accuracy 87.5%" in line
    assert re.search(r"about 0:0[3-6] left$", line.rstrip())


def test_what_is_left_of_a_run_is_not_what_is_left_of_its_features(monkeypatch):
    console, _ = on_terminal(monkeypatch, 80)
    costs = [PhaseCost(2, 1e9), PhaseCost(200, 1e9)]
    bar = RunBar(console, Pace(10, [2, 200]), 32.0, Forecast(10, 32, costs, prefix=1e9))
    (phase,) = make_record().phases
    bar.phase_began(phase)
    for done in (0, 500, 1000):
        bar.rows(done, 1000)
    line = shown_bar(bar, 80)
    assert line.startswith("features") and "about 0:00 left" not in line

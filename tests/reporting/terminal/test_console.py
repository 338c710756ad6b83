"""The console output of a run: on a terminal, in a file, quiet, narrow, and without colours."""

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


def test_a_terminal_gets_colours_and_a_bar_that_is_removed(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    played(console, tmp_path)
    text = out.getvalue()
    assert "\x1b[32m" in text  # trainable weights are green
    assert "━" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is restored


def test_no_color_removes_colours_but_not_the_bar(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, NO_COLOR="1")
    played(console, tmp_path)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.getvalue())
    assert "left" in out.getvalue()


@pytest.mark.parametrize("kind", ["dumb", "file"])
def test_other_output_consists_of_plain_lines(tmp_path, monkeypatch, kind):
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
    # lines to copy are not wrapped
    words = [line for line in lines if not line.startswith(("next  ", " " * 11, "record "))]
    assert max(map(len, words)) <= width


def test_the_line_of_an_epoch_fits_80_columns(tmp_path, monkeypatch):
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
    for shown_phase in (replace(phase, name=name), phase):
        bar.phase(shown_phase, "starts")
        bar.step(shown_phase, 0, 29_000, {"loss": 1234.5678, "accuracy": 1.0})
        bar.step(shown_phase, 28_999, 29_000, {"loss": 1234.5678, "accuracy": 1.0})
        bar.rows(1_000_000, 3_000_000)
        plain = Console(file=io.StringIO(), width=width)
        assert len(plain.render_lines(bar.line(), pad=False)) == 1
        (line,) = plain.render_lines(bar.line(), pad=False)
        assert sum(segment.cell_length for segment in line) <= width - len("^C")


def test_lines_printed_while_the_bar_is_shown_stay_whole(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    listener = ConsoleListener(console, tmp_path, 3, [2])
    listener.run_started(make_record())
    print("a line of a library")
    listener.run_ended(make_record())
    assert "a line of a library\n" in out.getvalue()


def test_a_redirected_stderr_stays_redirected(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    listener = ConsoleListener(console, tmp_path, 3, [2])
    listener.run_started(make_record())
    print("a warning", file=sys.stderr)
    listener.run_ended(make_record())
    assert errors.getvalue() == "a warning\n" and "a warning" not in out.getvalue()


def test_multi_label_runs_explain_their_accuracy(tmp_path):
    record = make_record()
    record.dataset.multi_label = True
    out = io.StringIO()
    listener = ConsoleListener(Console(file=out, width=80), tmp_path, 3, [2])
    listener.run_started(record)
    assert "multi-label: accuracy is the share of correct decisions" in out.getvalue()


def finished(status="completed", name="digits", overrides=()):
    record = make_record()
    record.status, record.dataset.name, record.overrides = status, name, list(overrides)
    record.backbone.stages = [{"name": "stem"}]
    return record


def probe(record):
    nothing = {"weights": 0, "parameters": 0}
    record.phases[0].stages = [{"name": "stem", "trainable": nothing}]
    return record


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (finished(), ["predict 'a b' FILE…", "export 'a b' --format keras"]),
        (finished(name="arrays"), ["evaluate 'a b'", "export 'a b' --format keras"]),
        (
            probe(finished(overrides=["experiment=resnet_probe", "schedule.phases.head.epochs=1",
                                      "hydra.run.dir=x", "~schedule.phases.x", "dataset.path=a b"])),
            ["predict 'a b' FILE…", "experiment=resnet_probe 'dataset.path=a b' schedule=progressive"],
        ),
        (finished("interrupted"), ["resume 'a b'", "report 'a b'"]),
    ],
)  # fmt: skip
def test_the_next_commands_suit_the_run(tmp_path, monkeypatch, record, expected):
    monkeypatch.chdir(tmp_path)
    commands = next_commands(record, tmp_path / "a b")
    assert commands == [f"python -m finetune {words}" for words in expected]


def test_a_failed_run_names_its_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "finetune.log").touch()
    expected = ["python -m finetune resume run", "tail run/finetune.log"]
    assert next_commands(finished("failed"), tmp_path / "run") == expected


def test_a_run_of_finetuner_is_resumed_in_python(tmp_path):
    record = finished("interrupted")
    record.backbone.source = "own"
    assert next_commands(record, tmp_path)[0] == "fit(…, resume=True)"


def test_the_suggested_unfreezing_composes():
    from finetune.config.compose import compose_config

    record = probe(finished(overrides=["experiment=resnet_probe", "schedule.phases.head.epochs=1"]))
    command = next_commands(record, Path("run"))[1]
    overrides = command.removeprefix("python -m finetune ").split()
    assert compose_config(overrides).schedule.epochs_per_phase == 2


def test_only_existing_files_are_named(tmp_path, monkeypatch):
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


def test_the_bar_shows_loss_accuracy_and_the_remaining_time(monkeypatch):
    console, _ = on_terminal(monkeypatch, 80)
    bar = RunBar(console, Pace(10, [2, 2]), 32.0, Forecast(10, 32, [PhaseCost(2), PhaseCost(2)]))
    (phase,) = make_record().phases
    bar.phase_began(phase)
    assert "time left unknown" in shown_bar(bar, 80)
    bar.step(phase, 0, 10, {"loss": 0.53281, "accuracy": 0.875})
    line = shown_bar(bar, 80)
    assert line.startswith("head 1/2 ") and "loss 0.5328 accuracy 87.5%" in line
    assert re.search(r"about 0:0[3-6] left$", line.rstrip())


def test_the_remaining_time_includes_more_than_the_features(monkeypatch):
    console, _ = on_terminal(monkeypatch, 80)
    costs = [PhaseCost(2, 1e9), PhaseCost(200, 1e9)]
    bar = RunBar(console, Pace(10, [2, 200]), 32.0, Forecast(10, 32, costs, prefix=1e9))
    (phase,) = make_record().phases
    bar.phase_began(phase)
    for done in (0, 500, 1000):
        bar.rows(done, 1000)
    line = shown_bar(bar, 80)
    assert line.startswith("features") and "about 0:00 left" not in line

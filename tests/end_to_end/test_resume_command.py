"""`resume`: what it goes on with, what it refuses, and what a second process on a run is told."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune.cli import main
from finetune.record.files import RecordListener
from finetune.storage.run_directory import locked
from tests.helpers.interruptions import stopping_at

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "backbone=resnet_mini", "dataset=digits", "dataset.max_samples=40", "dataset.batch_size=16",
    "schedule.phases.head.epochs=2", "head.dropout=0.1", "features.cache=never",
    "+schedule.phases.top={epochs: 1, learning_rate: 0.001, freeze: {policy: stages, "
    "stages: [stage3]}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was asked to stop at its fourth step, in its second epoch."""
    directory = tmp_path_factory.mktemp("stopped") / "run"
    with stopping_at(4):
        assert main([*TINY, f"hydra.run.dir={directory}"]) == 130
    record = json.loads((directory / "run.json").read_text())
    assert record["status"] == "interrupted"
    return directory


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "run")


def resumed(directory, *more):
    return main(["resume", str(directory), *more])


def record_of(directory):
    return json.loads((directory / "run.json").read_text())


def test_a_run_goes_on_and_is_then_completed(run, capsys):
    assert resumed(run) == 0
    record = record_of(run)
    assert record["status"] == "completed" and record["test"]
    assert record["resumed"] == [{"phase": 0, "epoch": 1, "step": 1}]
    assert [phase["epochs_run"] for phase in record["phases"]] == [2, 1]
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 2 * 3
    assert "resumes in phase 1, after 1 epoch and 1 step" in capsys.readouterr().out
    assert resumed(run) == 0
    assert "is completed" in capsys.readouterr().out
    # A flipped digit in the record of a completed run: it is found, and written anew.
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"epochs_run": 2', '"epochs_run": 3'))
    assert resumed(run) == 0
    assert record_of(run)["phases"] == record["phases"]
    assert "values that do not match its sha256" in (run / "finetune.log").read_text()
    metrics = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(metrics.replace("head", "heap", 1))
    assert resumed(run) == 0
    assert (run / "metrics.csv").read_text() == metrics
    model = run / "model/model.weights.h5"
    weights = bytearray(whole := model.read_bytes())
    weights[len(weights) // 2] ^= 1
    model.write_bytes(weights)
    assert resumed(run) == 0
    assert [len(model.read_bytes()), record_of(run)["status"]] == [len(whole), "completed"]
    said = (run / "finetune.log").read_text()
    assert "metrics.csv are not as the run wrote them" in said
    assert "model/model.weights.h5 are not as the run wrote them" in said


def test_a_change_is_refused_by_name_unless_it_is_allowed(run, capsys):
    change = "schedule.phases.top.learning_rate=0.01"
    assert resumed(run, change) == 2
    said = capsys.readouterr().err
    assert "schedule.phases.top.learning_rate was 0.001, is 0.01" in said
    assert "--allow-changed" in said
    with stopping_at(1):
        assert resumed(run, change, "--allow-changed") == 130
    assert resumed(run) == 0  # the change was saved, with a checkpoint that has it
    record = record_of(run)
    assert record["config"]["schedule"]["phases"]["top"]["learning_rate"] == 0.01
    assert record["phases"][1]["learning_rates"]["head"] == 0.01
    assert "the run resumes with a change" in (run / "finetune.log").read_text()


def test_the_model_of_a_run_cannot_be_changed(run, capsys):
    assert resumed(run, "head.standardise=never", "--allow-changed") == 2
    assert "head.standardise was auto, is never" in capsys.readouterr().err


def test_where_the_data_are_may_change_as_long_as_they_are_the_same(run, monkeypatch):
    monkeypatch.chdir("/")
    with stopping_at(1):
        assert resumed(run, "features.dir=/tmp") == 130
    assert "dir: /tmp\n" in (run / ".hydra/config.yaml").read_text()
    assert resumed(run) == 0
    assert record_of(run)["config"]["features"]["dir"] == "/tmp"


def test_features_of_trained_weights_are_not_stored_as_those_of_pretrained_ones(tmp_path):
    stored = ["features.cache=always", f"features.dir={tmp_path}/features"]
    phases = [
        "schedule=custom",
        "+schedule.phases.all={epochs: 1, learning_rate: 0.01, freeze: {policy: none}}",
        "+schedule.phases.top={epochs: 2, learning_rate: 0.01, freeze: {policy: depth, "
        "unfreeze_depth: 0}}",
    ]
    data = [*TINY[:4], *stored]
    with stopping_at(4):  # the first step of the second phase
        assert main([*data, *phases, f"hydra.run.dir={tmp_path}/run"]) == 130
    shutil.rmtree(tmp_path / "features")
    change = "schedule.phases.top.epochs=3"
    assert resumed(tmp_path / "run", "--allow-changed", change) == 0
    probe = ["schedule=linear_probe", "schedule.phases.head.epochs=1"]
    assert main([*data, *probe, f"hydra.run.dir={tmp_path}/probe"]) == 0
    # What the resumed run has stored is of its own weights: the probe finds nothing of its own.
    assert record_of(tmp_path / "probe")["phases"][0]["features"]["samples_extracted"] == 3 * 40


def test_another_config_version_or_dataset_is_refused_by_name(run, capsys, monkeypatch):
    saved = run / ".hydra/config.yaml"
    config = saved.read_text()
    saved.write_text(config.replace("batch_size: 16", "batch_size: 8"))
    assert resumed(run) == 2
    assert "dataset.batch_size was 16, is 8" in capsys.readouterr().err
    saved.write_text(config)
    from finetune.runs import resume as resuming
    from finetune.runs import run as runs

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "version", lambda package: "9.9")
        assert resumed(run) == 2
        assert "versions.keras was" in (said := capsys.readouterr().err) and "is 9.9" in said
    with monkeypatch.context() as patch:
        identity = runs.identity

        def other(record):
            found = identity(record)
            return found | {"dataset.fingerprint": found["dataset.fingerprint"][::-1]}

        known = []
        patch.setattr(
            runs,
            "identity",
            lambda r: known.append(r) or (other if len(known) > 1 else identity)(r),
        )
        assert resumed(run) == 2
        assert "dataset.fingerprint was" in capsys.readouterr().err


def test_the_phases_that_have_run_stay(run, capsys):
    text = (run / ".hydra/config.yaml").read_text()
    (run / ".hydra/config.yaml").write_text(text.replace("    head:\n", "    probe:\n"))
    before = [(run / name).read_text() for name in ("run.json", "schedule.yaml")]
    assert resumed(run, "--allow-changed") == 2
    assert [(run / name).read_text() for name in ("run.json", "schedule.yaml")] == before
    said = capsys.readouterr().err
    assert "must start with the phases that have started" in said
    assert "head, depth(0), inference. Received: probe, depth(0), inference" in said


def test_a_batch_size_that_is_allowed_to_change_begins_the_epoch_anew(run):
    assert resumed(run, "--allow-changed", "dataset.batch_size=8") == 0
    assert "epoch 1 starts over" in (run / "finetune.log").read_text()
    assert record_of(run)["status"] == "completed"


def test_a_run_that_never_came_to_a_checkpoint_begins(run):
    shutil.rmtree(run / "checkpoints")
    typed = record_of(run)["overrides"]
    (run / "run.json").unlink()
    assert resumed(run) == 0
    assert typed and record_of(run)["overrides"] == typed
    assert record_of(run)["resumed"] == []
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 2 * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "must be given one run directory"),
        (["{run}", "twice"], "must be given one run directory"),
        (["{run}", "--force"], "unknown option --force for resume. Valid: --allow-changed"),
        (["{run}/model"], "RUN_DIR must be the directory of a run"),
        (["{run}", "seed=1"], "seed was 0, is 1"),
        (["{run}", "sede=1"], "sede must be a key of the config"),
        (["{run}", "dataset.batch_size=0"], "dataset.batch_size must be"),
    ],
)
def test_what_cannot_be_resumed(run, capsys, arguments, message):
    before = sorted(p.name for p in run.iterdir())
    assert main(["resume", *(argument.format(run=run) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in run.iterdir()) == before


def test_two_processes_on_one_run(run, tmp_path, capsys):
    with locked(run):
        assert resumed(run) == 2
        assert "that no other run writes to" in capsys.readouterr().err
    busy = tmp_path / "busy"
    with locked(busy):
        assert main([*TINY, f"hydra.run.dir={busy}"]) == 2
        assert "that no other run writes to" in capsys.readouterr().err
        assert sorted(p.name for p in busy.iterdir()) == [".lock"]
    assert not busy.exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    code = (
        "import os, pathlib, sys; from finetune.storage.run_directory import locked\n"
        "held = locked(pathlib.Path(sys.argv[1])); held.__enter__(); os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -9 and (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass


def test_a_run_is_not_written_over_another(run, capsys):
    assert main([*TINY, f"hydra.run.dir={run}"]) == 2
    assert f"or resume it: python -m finetune resume {run}" in capsys.readouterr().err


@contextmanager
def limited(size):
    """No file may be written longer than `size` bytes: a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(run, capsys):
    # The weights and moments of stage3 (11 MB) do not fit any more; the head's do.
    with limited(2_000_000):
        code = resumed(run)
    stderr = capsys.readouterr().err
    assert code == 1, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    assert "must have room to be written" in stderr and "File too large" in stderr
    assert "Traceback" not in stderr
    assert record_of(run)["status"] == "failed"
    assert resumed(run) == 0
    record = record_of(run)
    assert record["status"] == "completed"
    assert [phase["epochs_run"] for phase in record["phases"]] == [2, 1]


def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path, capsys):
    with limited(1_000):
        code = main([*TINY, f"hydra.run.dir={tmp_path}/run"])
    stderr = capsys.readouterr().err
    assert code == 1, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    assert "must have room to be written" in stderr


@pytest.mark.slow
def test_killed_by_force_and_by_request_it_ends_the_same():
    result = subprocess.run(
        [sys.executable, "scripts/torture_run.py", "--kills", "3", *TINY_TORTURE],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kills survived" in result.stdout
    assert result.stdout.count(" equal\n") >= 4


TINY_TORTURE = ["dataset.max_samples=60", "schedule.from_depth=0", "schedule.to_depth=1"]


@contextmanager
def removing(directory, at, then=lambda: None):
    """Removes a run's directory when so many epochs have ended."""
    ended = []

    def epoch_ended(self, record, phase, rows):
        ended.append(1)
        if len(ended) == at:
            shutil.rmtree(directory)
            then()
        original(self, record, phase, rows)

    original = RecordListener.epoch_ended
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordListener, "epoch_ended", epoch_ended)
        yield


def test_a_directory_that_is_removed_is_made_again_and_the_run_goes_on(tmp_path, capsys):
    directory = tmp_path / "day" / "run"
    with removing(directory.parent, 1):
        assert main([*TINY, f"hydra.run.dir={directory}"]) == 0
    assert "was removed while the run was training. It was created again" in capsys.readouterr().err
    assert record_of(directory)["status"] == "completed"
    for name in ("model/model.weights.h5", "metrics.csv", "schedule.yaml", "finetune.log"):
        assert (directory / name).exists(), name
    assert resumed(directory) == 0  # there is nothing left to do


def test_weights_are_saved_elsewhere_where_a_directory_cannot_be_made_again(
    tmp_path, capsys, monkeypatch
):
    directory = tmp_path / "day" / "run"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    blocked = lambda: directory.parent.write_text("a file")  # noqa: E731
    with removing(directory.parent, 1, blocked):
        assert main([*TINY, f"hydra.run.dir={directory}"]) == 1
    error = capsys.readouterr().err
    (model,) = elsewhere.glob("run-*/model")
    assert f"with its weights at that moment, is in {model}." in error
    assert "Traceback" not in error
    assert any(model.glob("*.h5"))

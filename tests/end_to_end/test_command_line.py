"""The command line driven as a user would, on the bundled backbone and digits."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune.cli import main
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import resume_point

SHORT = [
    "experiment=resnet_freeze",
    "dataset.train_per_class=8",
    "schedule.phases.head.epochs=2",
    "schedule.epochs_per_phase=1",
]


def digests(directory):
    """Returns the sha256 of the last weights and optimizer state."""
    last = max((directory / "checkpoints").iterdir()) / "checkpoint.json"
    files = json.loads(last.read_text())["files"]
    return {name: files[f"{name}.safetensors"] for name in ("weights", "optimizer")}


def finetune(*arguments, cwd, timeout=300):
    """Runs a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "finetune", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "120"},
    )


def finetune_here(*arguments, cwd):
    """Runs a command in this process, which spares the imports; returns what `finetune` does."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "120")
        code = main(arguments)
    return SimpleNamespace(returncode=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same command; the second proves that a seed repeats bit for bit.

    It does so in a process that has done other things before.
    """
    folder = tmp_path_factory.mktemp("runs")
    result = finetune(*SHORT, f"hydra.run.dir={folder}/a", cwd=folder)
    assert result.returncode == 0, result.stderr
    again = finetune_here(*SHORT, f"hydra.run.dir={folder}/b", cwd=folder)
    assert again.returncode == 0, again.stderr
    return folder, result


def record_of(directory):
    return json.loads((Path(directory) / "run.json").read_text())


def test_the_run_directory_holds_what_the_design_says(runs):
    folder, result = runs
    record = record_of(folder / "a")
    assert record["schema"] == 1
    # 8 labels a class and two epochs of a probe, then one epoch a stage: far above chance only
    # if pretrained features reach the head as they should
    assert record["test"]["accuracy"] > 0.85
    assert record["status"] == "completed"
    names = [phase["name"] for phase in record["phases"]]
    assert names == ["head", "stage3", "stage2", "stage1", "stem"]
    for path in ("metrics.csv", ".hydra/config.yaml", "model/config.json", "schedule.yaml"):
        assert (folder / "a" / path).is_file(), path
    assert list((folder / "a" / "tensorboard").glob("events*"))
    log = (folder / "a" / "finetune.log").read_text()
    assert "trainable 2 weights / 2570 parameters" in log
    assert "non-trainable 45 / 1,227,712" in log and "phase head, epoch 1 of " in log
    total = sum(stage["weights"] for stage in record["backbone"]["stages"])
    assert record["backbone"]["weights"] == {"loaded": total, "total": total, "absent": []}
    assert f"loaded {total} of {total} weights" in log
    assert f"loaded {total} of {total} weights" in result.stdout
    interval = record["test_interval"]
    assert interval["low"] < record["test"]["accuracy"] < interval["high"]
    assert all(remark in log for remark in record["remarks"])
    assert "Traceback" not in result.stderr


def test_counts_are_those_of_the_architecture_by_hand(runs):
    folder, _ = runs
    phases = record_of(folder / "a")["phases"]
    head = 256 * 10 + 10
    # basic blocks: two 3x3 convolutions; a 1x1 projection where the width changes; no biases;
    # every convolution is followed by a BatchNorm: gamma and beta here, two statistics apart
    stem = 7 * 7 * 3 * 64 + 2 * 64
    stage1 = 2 * 9 * 64 * 64 + 2 * 2 * 64
    stage2 = 9 * 64 * 128 + 9 * 128 * 128 + 64 * 128 + 3 * 2 * 128
    stage3 = 9 * 128 * 256 + 9 * 256 * 256 + 128 * 256 + 3 * 2 * 256
    if record_of(folder / "a")["backbone"]["stages"][0]["parameters"] != stem + 2 * 64:
        stem = 3 * 3 * 3 * 64 + 2 * 64  # a 3x3 stem convolution
    statistics = 2 * (64 + 2 * 64 + 3 * 128 + 3 * 256)
    trainable = head
    for phase, stage in zip(phases, (0, stage3, stage2, stage1, stem), strict=True):
        trainable += stage
        counts = phase["weight_counts"]
        assert counts["trainable"]["parameters"] == trainable
        assert counts["untrainable"]["parameters"] == statistics
        total = head + stage3 + stage2 + stage1 + stem + statistics
        assert counts["total"]["parameters"] == total
        assert counts["non_trainable"]["parameters"] == total - trainable


def test_every_phase_is_proved_and_epochs_run_on(runs):
    folder, _ = runs
    record = record_of(folder / "a")
    for phase in record["phases"]:
        proof = phase["frozen_proof"]
        assert proof["weights_changed"] == 0
        assert proof["weights_checked"] >= 18  # at least the BatchNorm statistics
        assert proof["sha256_before"] == proof["sha256_after"]
    rows = list(csv.DictReader((folder / "a" / "metrics.csv").read_text().splitlines()))
    train = [row for row in rows if row["split"] == "train"]
    assert [int(row["global_epoch"]) for row in train] == list(range(6))
    assert {row["split"] for row in rows} == {"train", "validation"}


def test_the_same_seed_repeats_bit_for_bit(runs):
    folder, _ = runs
    assert digests(folder / "a") == digests(folder / "b")
    assert record_of(folder / "a")["test"] == record_of(folder / "b")["test"]


def test_the_model_loads_with_kerashub_alone_and_predicts_the_same(runs):
    folder, _ = runs
    script = (
        "import sys, json, numpy as np, keras, keras_hub\n"
        "from sklearn.datasets import load_digits\n"
        "from sklearn.model_selection import train_test_split\n"
        "d = load_digits(); i = np.arange(1797)\n"
        "_, test = train_test_split(i, test_size=797, stratify=d.target, random_state=0)\n"
        "x = np.rint(d.images[np.sort(test)] * 255 / 16).astype('uint8')[..., None]\n"
        "x = np.repeat(x, 3, -1)\n"
        "model = keras_hub.models.ImageClassifier.from_preset(sys.argv[1])\n"
        "model.compile()\n"
        "p = model.predict(x, batch_size=64, verbose=0).argmax(-1)\n"
        "assert 'finetune' not in sys.modules\n"
        "print(float((p == d.target[np.sort(test)]).mean()))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder / "a" / "model")],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    accuracy = float(result.stdout.split()[-1])
    assert accuracy == pytest.approx(record_of(folder / "a")["test"]["accuracy"], abs=1e-6)


def test_an_occupied_run_directory_is_refused_and_left_alone(runs):
    folder, _ = runs
    before = (folder / "a" / "run.json").read_bytes()
    config = (folder / "a" / ".hydra" / "config.yaml").read_bytes()
    result = finetune_here(*SHORT, "seed=5", f"hydra.run.dir={folder}/a", cwd=folder)
    assert result.returncode == 2
    assert "must be a directory without a run" in result.stderr
    assert (folder / "a" / "run.json").read_bytes() == before
    assert (folder / "a" / ".hydra" / "config.yaml").read_bytes() == config


def test_the_saved_config_and_schedule_can_be_used_again(runs):
    folder, _ = runs
    (folder / "mine" / "schedule").mkdir(parents=True)
    saved = (folder / "a" / "schedule.yaml").read_text()
    (folder / "mine" / "schedule" / "again.yaml").write_text(saved)
    mine = ["--config-dir", str(folder / "mine"), "schedule=again"]
    result = finetune_here("inspect", *mine, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "stage1" in result.stdout


def test_check_runs_a_step_of_each_phase_and_writes_nothing(tmp_path):
    result = finetune_here("check", *SHORT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("head", "stage3", "stage2", "stage1", "stem"):
        assert name in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.phases.head.freeze.unfreeze_depth=9"], "must be 0..4"),
        (["schedule=custom", "+schedule.phases.a={epochs: 1, learning_rate: 1e-3, "
          "freeze: {policy: stages, stages: [stge3]}}"], "Did you mean stage3"),
        (["schedule=custom", "+schedule.phases.a={epochs: 1, learning_rate: 1e-3, "
          "freeze: {policy: patterns, freeze: ['.*']}}"], "something to train"),
        (["runtime.device=gpu"], "TensorFlow sees no GPU"),
        (["backbone.preset=resnet_51_imagenet"], "resnet_50_imagenet"),
        (["dataset=tfds", "dataset.name=oxford_flowers103"], "oxford_flowers102"),
    ],
)  # fmt: skip
def test_what_needs_a_model_is_refused_before_training(tmp_path, overrides, message):
    command = finetune_here
    if "gpu" in overrides[0]:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            pytest.skip("there is a GPU")
        command = finetune  # which shows that TensorFlow's own lines stay off stderr
    result = command(*overrides, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")


def test_ctrl_c_keeps_the_state_and_exits_130(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune", "experiment=resnet_probe",
         "schedule.phases.head.epochs=500", "hydra.run.dir=run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Heard also where the tests run in the background, which ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.csv"
    deadline = time.time() + 120
    while time.time() < deadline and not (metrics.exists() and "train" in metrics.read_text()):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert record_of(tmp_path / "run")["status"] == "interrupted"
    checkpoint = Checkpoints(tmp_path / "run/checkpoints").latest(resume_point)
    assert checkpoint.state.position.epoch >= 1
    assert "predictions/kernel" in checkpoint.arrays["weights"]


def test_a_sweep_runs_on_after_a_failed_job_and_jobs_do_not_leak(tmp_path, runs):
    folder, _ = runs
    result = finetune_here(
        "-m", *SHORT, "seed=7,0", "schedule.phases.head.freeze.unfreeze_depth=9,0",
        "hydra.sweep.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "job 0: error" in result.stderr
    assert "job 1 (2 of 4): experiment=resnet_freeze " in result.stdout
    assert "sweep: 2 not started, 2 completed" in result.stdout
    *_, compare, report = result.stdout.splitlines()
    assert compare.split() == ["next", *"python -m finetune compare sweep".split()]
    assert report.split() == "python -m finetune report sweep".split()
    records = {n: record_of(tmp_path / "sweep" / n) for n in ("1", "3")}
    assert all(record["status"] == "completed" for record in records.values())
    assert not (tmp_path / "sweep" / "0" / "model").exists()
    # job 3 is seed 0 after three others in the same process: the same bits as on its own
    assert records["3"]["test"] == record_of(folder / "a")["test"]
    assert digests(tmp_path / "sweep" / "3") == digests(folder / "a")


def test_a_quiet_sweep_writes_its_errors_alone(tmp_path):
    arguments = ["seed=0,1", "backbone.preset=resnet_51_imagenet", "hydra.sweep.dir=sweep"]
    result = finetune_here("-m", "--quiet", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert [line[:13] for line in result.stderr.splitlines()] == ["job 0: error:", "job 1: error:"]

"""Whole runs with trackers: kept by real libraries, gone on with, and not harmed by broken ones."""

import json

import numpy as np
import pytest

import finetune
from finetune.cli import main
from finetune.reporting.trackers import choice
from finetune.training.phase_callback import PhaseCallback
from tests.helpers.interruptions import stopping_at
from tests.helpers.own_models import RULE, TWO_PHASES, functional, vectors
from tests.helpers.standing_in import Notes


def tuner(directory, *overrides):
    model = functional()
    return model, finetune.FineTuner(
        model, TWO_PHASES, stages=RULE, directory=directory, verbose=False,
        overrides=["dataset.batch_size=8", "features.cache=never", *overrides],
    )  # fmt: skip


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Hides trackers that the user has logged in to; stores are made in the test's directory."""
    monkeypatch.chdir(tmp_path)
    for key in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    for key in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(key, "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The weights and history of a run without trackers."""
    model, mine = tuner(tmp_path_factory.mktemp("plain") / "run")
    record = mine.fit(vectors(), vectors(16, 1))
    return model.get_weights(), [(row.split, row.loss) for row in record.history]


def assert_same(plain, model, record):
    assert record.status == "completed"
    for one, other in zip(plain[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert plain[1] == [(row.split, row.loss) for row in record.history]


@pytest.mark.parametrize("fails", ["open", "metrics", "picture", "file", "close"])
def test_with_a_broken_tracker_the_run_is_the_same(tmp_path, monkeypatch, plain, fails):
    bad = Notes(fails)
    monkeypatch.setattr(choice, "TensorBoardTracker", lambda directory: bad)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"")
    model, mine = tuner(tmp_path)
    assert_same(plain, model, mine.fit(vectors(), vectors(16, 1)))
    assert bad.calls[-1][0] == fails


def test_a_killed_run_goes_on_in_the_same_tracked_runs(tmp_path, plain, alone):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    asked = ("trackers.mlflow=true", "trackers.wandb=true", "trackers.project=kept")
    # The second epoch of five steps each.
    with stopping_at(7), pytest.raises(KeyboardInterrupt):
        tuner(tmp_path, *asked)[1].fit(vectors(), vectors(16, 1))
    state = json.loads((tmp_path / "trackers.json").read_text())
    model, mine = tuner(tmp_path, *asked)
    assert_same(plain, model, mine.fit(vectors(), vectors(16, 1), resume=True))
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("kept").experiment_id])
    assert run.info.run_id == state["MLflow"]["known"] and run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "loss/train")
    assert [(point.step, point.value) for point in losses] == [
        (step, loss)
        for step, loss in enumerate(loss for split, loss in plain[1] if split == "train")
    ]
    assert run.data.params["schedule.phases.top.epochs"] == "1"
    known = state["Weights & Biases"]["known"]
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{known}*"))) == 2


def test_who_is_told_may_change_when_a_run_goes_on(tmp_path, monkeypatch, plain):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(PhaseCallback, "on_train_batch_end", lambda self, batch, logs=None: 1 / 0)
        tuner(tmp_path)[1].fit(vectors(), vectors(16, 1))
    model, mine = tuner(tmp_path, "trackers.project=other", "trackers.name=mine")
    assert_same(plain, model, mine.fit(vectors(), vectors(16, 1), resume=True))


@pytest.mark.parametrize("verb", [[], ["check"], ["inspect"]])
def test_a_missing_package_is_named_before_anything_is_spent(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    run = [] if verb else [f"hydra.run.dir={tmp_path}/run"]
    assert main([*verb, "trackers.mlflow=true", *run]) == 2
    assert "pip install -c constraints.txt -e '.[mlflow]'" in capsys.readouterr().err

"""MLflow with a file store, read back by its own client."""

import math
import os

import pytest

from finetune.reporting.trackers import mlflow as ours
from finetune.reporting.trackers.mlflow import MlflowTracker, named, opening, store
from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event

mlflow = pytest.importorskip("mlflow")
CONFIG = {"seed": 3, "head": {"dropout": None}, "schedule": {"phases": {"my [top]": {"epochs": 2}}}}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Hides the user's own settings and store, and creates stores in the directory of the test."""
    monkeypatch.chdir(tmp_path)
    for key in ours.ENVIRONMENT:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run_in(directory, **more):
    return TrackedRun("digits", "mine", "sweep", directory, CONFIG, {"version.keras": "3"}, **more)


def read(directory, known):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.MlflowClient((directory / "mlruns").as_uri())
        return client, client.get_run(known)


def test_a_run_is_recorded_with_all_events(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    tracker = MlflowTracker(None)
    known = tracker.open(run_in(tmp_path))
    tracker.metrics(
        [Event("epochs", 0, 0, {"loss/train": 1.5}), Event("epochs", 1, 1, {"loss/train": 0.5})]
    )
    tracker.picture("curves", b"\x89PNG", 1)
    tracker.file(tmp_path / "run.json")
    tracker.close("completed")
    client, run = read(tmp_path, known)
    assert run.info.status == "FINISHED" and run.info.run_name == "mine"
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    assert run.data.params == {"seed": "3", "schedule.phases.my _top_.epochs": "2"}
    assert {
        "group": "sweep",
        "status": "completed",
        "version.keras": "3",
    }.items() <= run.data.tags.items()
    history = client.get_metric_history(known, "loss/train")
    assert [(metric.step, metric.value) for metric in history] == [(0, 1.5), (1, 0.5)]
    assert [artifact.path for artifact in client.list_artifacts(known)] == ["plots", "run.json"]
    assert [artifact.path for artifact in client.list_artifacts(known, "plots")] == [
        "plots/curves.png"
    ]


def test_the_environment_is_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    before, seen = dict(os.environ), []
    tracker = MlflowTracker(None)
    tracker.open(run_in(tmp_path))
    monkeypatch.setattr(
        tracker._client, "log_batch", lambda *_, **__: seen.append(dict(os.environ))
    )
    tracker.metrics([Event("epochs", 0, 0, {"loss/train": 1.5})])
    assert seen == [{**ours.ENVIRONMENT, **before}]
    tracker.close("completed")
    with pytest.raises(FileNotFoundError):
        tracker.file(tmp_path / "nothing")
    assert dict(os.environ) == before


@pytest.mark.parametrize(("status", "theirs"), [("interrupted", "KILLED"), ("failed", "FAILED")])
def test_a_resumed_run_continues_the_tracked_run(tmp_path, status, theirs):
    first = MlflowTracker(None)
    known = first.open(run_in(tmp_path))
    first.close(status)
    assert read(tmp_path, known)[1].info.status == theirs
    second = MlflowTracker(None)
    assert second.open(run_in(tmp_path, known=known)) == known
    assert read(tmp_path, known)[1].info.status == "RUNNING"
    second.metrics([Event("epochs", 2, 2, {"loss/train": 0.25})])
    second.close("completed")
    client, run = read(tmp_path, known)
    assert run.info.status == "FINISHED" and run.data.metrics == {"loss/train": 0.25}
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_large_runs_are_sent_in_batches(tmp_path):
    run = run_in(tmp_path)
    run.config.clear()
    run.config.update({f"key{number}": number for number in range(230)})
    tracker = MlflowTracker((tmp_path / "mlruns").as_uri())
    known = tracker.open(run)
    tracker.metrics([Event("epochs", 0, 0, {f"m{number}": math.nan for number in range(1100)})])
    tracker.close("completed")
    data = read(tmp_path, known)[1].data
    assert len(data.params) == 230 and len(data.metrics) == 1100
    run.config.clear()
    run.config.update(CONFIG)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("loss/train", "loss/train"), ("../x", "_/x"), ("/etc//passwd/", "_/etc/_/passwd/_"),
        ("<b>猫\\n", "_b_猫_n"), ("", "_"), ("a" * 300, "a" * 250),
    ],
)  # fmt: skip
def test_any_name_becomes_a_valid_one(tmp_path, name, theirs):
    from mlflow.utils.validation import _validate_metric_name

    assert named(name) == theirs
    _validate_metric_name(theirs)


def test_a_server_that_does_not_answer_times_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(mlflow.MlflowException, match="127.0.0.1"):
        MlflowTracker("http://127.0.0.1:9").open(run_in(tmp_path))


@pytest.mark.parametrize(
    ("run", "place"),
    [
        ("outputs/2026-01-01/12-00-00", "mlruns"),
        ("elsewhere/outputs/day/time", "elsewhere/mlruns"),
        ("multirun/day/time/3", "mlruns"),
        ("runs/a", "mlruns"),
    ],
)
def test_all_runs_share_one_store_beside_their_outputs(tmp_path, run, place):
    assert store(None, tmp_path / run) == (tmp_path / place).as_uri()


def test_a_given_store_and_that_of_the_environment_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert store(None, tmp_path) == "http://host:5000"
    assert store("sqlite:////tmp/x.db", tmp_path) == "sqlite:////tmp/x.db"


def test_two_runs_and_a_resume_are_in_one_store(tmp_path, monkeypatch):
    first, second = (tmp_path / "outputs" / name for name in ("a", "b"))
    trackers = [MlflowTracker(None) for _ in range(2)]
    known = [
        tracker.open(run_in(directory))
        for tracker, directory in zip(trackers, (first, second), strict=True)
    ]
    for tracker in trackers:
        tracker.close("interrupted")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    again = MlflowTracker(None)
    assert again.open(run_in(first, known=known[0], where=trackers[0].where)) == known[0]
    again.close("completed")
    client, run = read(tmp_path, known[0])
    assert run.info.status == "FINISHED"
    runs = client.search_runs([run.info.experiment_id])
    assert {run.info.run_id for run in runs} == set(known)
    assert not (tmp_path / "other" / "mlruns").exists()


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        (
            "file:///tmp/my%20runs/mlruns",
            "MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri file:///tmp/my%20runs/mlruns",
        ),
        ("sqlite:////tmp/a b.db", "mlflow ui --backend-store-uri 'sqlite:////tmp/a b.db'"),
        ("https://host:5000/x", "https://host:5000/x"),
    ],
)
def test_the_command_that_shows_a_store_is_quoted(uri, command, monkeypatch):
    monkeypatch.setattr(ours, "tool", lambda name: name)
    assert opening(uri) == command


def test_two_runs_that_start_together_share_the_experiment(tmp_path, monkeypatch):
    first = MlflowTracker(None)
    first.open(run_in(tmp_path))
    by_name, asked = mlflow.MlflowClient.get_experiment_by_name, []

    def not_yet(self, name):
        asked.append(name)
        return None if len(asked) == 1 else by_name(self, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", not_yet)
    known = MlflowTracker(None).open(run_in(tmp_path))
    client, run = read(tmp_path, known)
    assert len(client.search_runs([run.info.experiment_id])) == 2

"""The events that trackers receive, and trackers that fail."""

import json
import tomllib
from pathlib import Path

import pytest

from finetune.config.schema import TRACKERS, TrackersConfig
from finetune.errors import ConfigError
from finetune.reporting.trackers import listener as listening_to
from finetune.reporting.trackers.choice import chosen, require_installed
from finetune.reporting.trackers.story import story
from tests.helpers.listeners import play
from tests.helpers.records import two_phases
from tests.helpers.standing_in import Notes, listening, written

METHODS = ("open", "metrics", "picture", "file", "close")


def test_events_arrive_in_order_with_pictures_and_files(tmp_path):
    written(tmp_path)
    notes = Notes()
    play(listening({"N": notes}, tmp_path))
    names = [name for name, *_ in notes.calls]
    assert names[0] == "open" and names[-3:] == ["picture", "file", "close"]
    assert ("picture", "curves", (tmp_path / "plots" / "curves.png").read_bytes(), 5) in notes.calls
    assert ("file", "run.json") in notes.calls
    assert notes.calls[-1] == ("close", "completed")
    assert [(e.kind, e.number) for e in notes.events] == [
        ("begun", 0),
        ("ended", 0),
        ("epochs", 4),
        ("result", 0),
    ]  # fmt: skip - the record of the test has its proof from the start


def test_the_output_of_a_tracker_is_hidden(tmp_path, capsys):
    play(listening({"N": Notes()}, tmp_path))
    assert capsys.readouterr() == ("", "")


def test_epochs_are_sent_in_batches(tmp_path, monkeypatch):
    record, notes = two_phases(), Notes()
    listener = listening({"N": notes}, tmp_path)
    rows, record.history = record.history, []
    listener.run_started(record)
    told = len(notes.calls)
    for row in rows:
        record.history.append(row)
        listener.epoch_ended(record, record.phases[row.phase], [row])
    assert len(notes.calls) == told
    monkeypatch.setattr(listening_to, "EVERY_SECONDS", 0.0)
    listener.epoch_ended(record, record.phases[1], rows[-1:])
    assert len(notes.calls) == told + 1


def test_a_resumed_run_sends_the_missed_events_and_none_twice(tmp_path):
    record, first = two_phases(), Notes()
    rows, record.history = record.history, record.history[:4]
    listening({"N": first}, tmp_path).run_started(record)  # and killed
    assert json.loads((tmp_path / "trackers.json").read_text())["N"]["known"] == "first"
    record.history = rows[:2]  # the checkpoint was earlier
    second = Notes()
    listener = listening({"N": second}, tmp_path)
    listener.run_started(record)
    assert second.run.known == "first"
    record.history = rows
    record.status = "completed"
    listener.run_ended(record)
    assert first.events + second.events != []
    told = [(event.kind, event.number) for event in first.events + second.events]
    assert sorted(told) == sorted({(event.kind, event.number) for event in story(record)})


@pytest.mark.parametrize(
    "text", ["", "[]", '{"N": 1}', '{"N": {"known": 3, "told": {}}}', '{"N": {"known": "a"}}', "\0"]
)
def test_trackers_start_new_runs_if_their_state_is_damaged(tmp_path, caplog, text):
    (tmp_path / "trackers.json").write_text(text)
    notes = Notes()
    play(listening({"N": notes}, tmp_path))
    assert notes.run.known is None
    assert text == "[]" or "trackers start new runs" in caplog.text


@pytest.mark.parametrize("fails", METHODS)
@pytest.mark.parametrize("error", [RuntimeError("no"), OSError(28, "No space left"), SystemExit(1)])
def test_a_tracker_that_fails_is_named_once_and_disabled(tmp_path, caplog, fails, error):
    written(tmp_path)
    bad, good, lines = Notes(fails, error), Notes(), []
    play(listening({"Bad": bad, "Good": good}, tmp_path, failed=lines.append))
    assert len(lines) == 1 and lines[0].startswith("Bad could not ")
    assert type(error).__name__ in lines[0]
    assert caplog.text.count("Bad could not") == 1
    assert [name for name, *_ in bad.calls].count(fails) == 1 and bad.calls[-1][0] == fails
    assert good.calls[-1] == ("close", "completed")


def test_ctrl_c_is_not_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        play(listening({"N": Notes("metrics", KeyboardInterrupt())}, tmp_path))


def test_no_password_of_a_url_is_logged(tmp_path, caplog):
    error = RuntimeError("could not reach https://me:hunter2@host/api\nmore")
    lines = []
    play(listening({"N": Notes("open", error)}, tmp_path, failed=lines.append))
    assert "https://host/api" in lines[0]
    assert "hunter2" not in caplog.text + lines[0]


def test_a_run_that_is_not_completed_has_no_pictures(tmp_path):
    record, notes = two_phases(), Notes()
    written(tmp_path)
    listener = listening({"N": notes}, tmp_path)
    listener.run_started(record)
    record.status = "interrupted"
    listener.run_ended(record)
    assert [name for name, *_ in notes.calls][-2:] == ["file", "close"]
    assert not [name for name, *_ in notes.calls if name == "picture"]


def test_a_run_continues_if_the_state_cannot_be_written(tmp_path, monkeypatch, caplog):
    def full(path, text):
        raise listening_to.StorageError("full")

    monkeypatch.setattr(listening_to, "write_atomically", full)
    notes = Notes()
    play(listening({"N": notes}, tmp_path))
    assert notes.calls[-1] == ("close", "completed")
    assert "send events to trackers twice" in caplog.text


def test_a_job_of_a_sweep_is_in_its_group(tmp_path):
    alone, job = Notes(), Notes()
    (tmp_path / "run").mkdir()
    (tmp_path / "3").mkdir()
    play(listening({"N": alone}, tmp_path / "run"))
    assert (alone.run.name, alone.run.group) == ("run", None)
    (tmp_path / "multirun.yaml").write_text("")
    play(listening({"N": job}, tmp_path / "3"))
    assert (job.run.name, job.run.group) == (f"{tmp_path.name}-3", tmp_path.name)
    settings = TrackersConfig(name="mine", group="ours", project="digits")
    play(listening({"N": job}, tmp_path / "3", settings))
    assert (job.run.name, job.run.group, job.run.project) == ("mine", "ours", "digits")


def test_tensorboard_is_always_used_and_the_others_by_option(tmp_path):
    assert list(chosen(TrackersConfig(), tmp_path)) == ["TensorBoard"]
    settings = TrackersConfig(mlflow=True, wandb=True, trackio=True)
    assert list(chosen(settings, tmp_path)) == [
        "TensorBoard", "MLflow", "Weights & Biases", "Trackio",
    ]  # fmt: skip


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(monkeypatch):
    found = {"mlflow": object()}
    monkeypatch.setattr("finetune.reporting.trackers.choice.find_spec", found.get)
    require_installed(TrackersConfig(mlflow=True))
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[wandb\]', or"):
        require_installed(TrackersConfig(wandb=True))
    with pytest.raises(ConfigError, match=r"Trackio is not installed.*'.\[trackio\]'") as caught:
        require_installed(TrackersConfig(mlflow=True, wandb=True, trackio=True))
    assert len(caught.value.problems) == 2


def test_the_extras_that_messages_name_exist():
    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert set(TRACKERS) <= set(declared["project"]["optional-dependencies"])


def test_a_resumed_run_uses_the_same_store(tmp_path):
    record, first, second = two_phases(), Notes(), Notes()
    first.where = "file:///somewhere/mlruns"
    listening({"N": first}, tmp_path).run_started(record)
    listening({"N": second}, tmp_path).run_started(record)
    assert (first.run.where, second.run.where) == (None, "file:///somewhere/mlruns")


def test_a_state_without_stores_is_read_too(tmp_path):
    (tmp_path / "trackers.json").write_text('{"N": {"known": "a", "told": {"begun": 1}}}')
    notes = Notes()
    listening({"N": notes}, tmp_path).run_started(two_phases())
    assert (notes.run.known, notes.run.where) == ("a", None)

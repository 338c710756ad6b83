"""Weights & Biases offline, read back from its own file."""

import io
import json
import struct
import time

import pytest
from PIL import Image

from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event
from finetune.reporting.trackers.wandb import WandbTracker

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Hides the user's own login and settings."""
    for key in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def run_in(directory, **more):
    config = {"seed": 3, "head": {"dropout": None}}
    return TrackedRun("digits", "mine", "sweep", directory, config, {"version.keras": "3"}, **more)


def records(directory):
    """Returns the records of an offline run, in LevelDB's log format after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = directory.glob("*.wandb")
    content, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # a header does not cross blocks
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # complete, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


def when_ended(directory):
    """Waits for the process that writes the records, which may finish after the run."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = records(directory)
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError("the run was not ended")


def test_a_run_is_recorded_offline_with_all_events(tmp_path, capfd):
    (tmp_path / "run.json").write_text("{}")
    image = io.BytesIO()
    Image.new("RGB", (7, 5)).save(image, "PNG")
    tracker = WandbTracker(None)
    known = tracker.open(run_in(tmp_path))
    tracker.metrics(
        [Event("epochs", 0, 0, {"loss/train": 1.5}), Event("epochs", 1, 1, {"loss/train": 0.5})]
    )
    tracker.picture("curves", image.getvalue(), 1)
    tracker.file(tmp_path / "run.json")
    tracker.close("completed")
    (directory,) = (tmp_path / "wandb").glob(f"offline-run-*-{known}")
    assert (directory / "files" / "run.json").read_text() == "{}"
    assert not (directory / "files" / "run.json").is_symlink()
    assert list((directory / "files/media/images/pictures").glob("curves_1_*.png"))
    found = when_ended(directory)
    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.run_id, run.project, run.display_name, run.run_group) == (
        known, "digits", "mine", "sweep",
    )  # fmt: skip
    assert not run.HasField("git")
    history = [
        {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for record in found
        if record.HasField("history")
    ]
    assert [(row["_step"], row["loss/train"]) for row in history] == [(0, 1.5), (1, 0.5)]
    config = {
        item.key: json.loads(item.value_json)
        for record in found
        if record.HasField("config")
        for item in record.config.update
    }
    assert config["seed"] == 3
    assert config["run"] == {"version.keras": "3", "status": "completed"}
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
    assert capfd.readouterr().out == ""


def test_a_resumed_run_continues_the_tracked_run(tmp_path):
    first = WandbTracker("offline")
    known = first.open(run_in(tmp_path))
    first.close("interrupted")
    second = WandbTracker("offline")
    assert second.open(run_in(tmp_path, known=known)) == known
    second.metrics([Event("epochs", 7, 7, {"loss/train": 0.25})])
    second.close("completed")
    directories = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(directories) == 2  # wandb sync sends both as one run
    assert {
        record.run.run_id for d in directories for record in when_ended(d) if record.HasField("run")
    } == {known}


def test_online_without_a_login_is_refused_without_a_prompt(tmp_path):
    with pytest.raises(RuntimeError, match="not logged in"):
        WandbTracker("online").open(run_in(tmp_path))

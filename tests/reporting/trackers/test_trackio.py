"""Trackio with its own store, read back by its library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trackio")

# Trackio reads the place of its store on import, so this runs in a separate process.
TOLD = """
import io, json, sys
from pathlib import Path

from PIL import Image
from finetune.reporting.trackers.story import Event
from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.trackio import TrackioTracker

directory = Path(sys.argv[1])
(directory / "run.json").write_text("{}")
image = io.BytesIO()
Image.new("RGB", (7, 5)).save(image, "PNG")
def run_in(**more):
    return TrackedRun("digits", "mine", "s", directory, {"seed": 3}, {"version.keras": "3"}, **more)

tracker = TrackioTracker()
known = tracker.open(run_in())
tracker.metrics([Event("epochs", 0, 0, {"loss/train": 1.5})])
tracker.picture("curves", image.getvalue(), 0)
tracker.file(directory / "run.json")
tracker.close("interrupted")
tracker = TrackioTracker()
assert tracker.open(run_in(known=known)) == known
tracker.metrics([Event("epochs", 1, 1, {"loss/train": 0.5})])
tracker.close("completed")

import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = {run.name: dict(run.config) for run in trackio.Api().runs("digits")}
print(json.dumps([known, runs, SQLiteStorage.get_logs("digits", known)], default=str))
"""


def test_a_run_is_recorded_and_continued_under_its_name(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TOLD, str(tmp_path)],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "store")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    known, runs, logs = json.loads(done.stdout.splitlines()[-1])
    assert known.startswith("mine-")  # with a suffix, because other runs may have the same name
    assert list(runs) == [known]
    assert (runs[known]["seed"], runs[known]["_Group"]) == (3, "s")
    assert runs[known]["run"] == {"version.keras": "3"}
    losses = {log["step"]: log["loss/train"] for log in logs if "loss/train" in log}
    assert losses == {0: 1.5, 1: 0.5}
    (picture,) = (log["pictures/curves"] for log in logs if "pictures/curves" in log)
    assert picture["_type"] == "trackio.image"
    assert [log["status"] for log in logs if "status" in log] == ["interrupted", "completed"]
    assert list((tmp_path / "store").rglob("*.png"))

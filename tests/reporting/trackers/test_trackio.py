"""Trackio, by a stand-in with its signatures; where it is installed, they are compared.

The adapter was tried against Trackio 0.43, whose pins do not go with ours.
"""

import inspect
import io
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from PIL import Image

from finetune.reporting.story import Event
from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.trackio import TrackioTracker

STORE = {}


class Run:
    """Keeps what is logged under its name."""

    def __init__(self, name, config):
        self.name = name
        self.kept = STORE.setdefault(name, {"config": config, "logged": [], "files": []})

    def log(self, metrics: dict, step: int | None = None):
        self.kept["logged"].append((step, metrics))

    def log_artifact(self, artifact_or_path, name=None, type=None, aliases=None, overwrite=False):
        self.kept["files"].append((name, type))


class Picture:
    def __init__(self, value, caption=None):
        self.size = value.size


def init(project, name=None, group=None, space_id=None, server_url=None, dataset_id=None,
         bucket_id=None, config=None, resume="never", settings=None, private=None, embed=True,
         auto_log_gpu=None, gpu_log_interval=10.0, auto_log_cpu=None, cpu_log_interval=10.0,
         webhook_url=None, webhook_min_level=None):  # fmt: skip
    assert (resume == "never") == (name not in STORE)
    assert (project, group, embed, auto_log_gpu, auto_log_cpu) == (
        "digits",
        "s",
        False,
        False,
        False,
    )
    return Run(name, config)


@pytest.fixture
def trackio(monkeypatch):
    """The stand-in, in the place of the package."""
    STORE.clear()
    ended = []
    module = SimpleNamespace(init=init, Image=Picture, finish=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "trackio", module)
    return ended


def run_in(directory, **more):
    return TrackedRun("digits", "mine", "s", directory, {"seed": 3}, {"version.keras": "3"}, **more)


def test_a_run_is_kept_and_goes_on_under_its_name(tmp_path, trackio):
    image = io.BytesIO()
    Image.new("RGB", (7, 5)).save(image, "PNG")
    tracker = TrackioTracker()
    known = tracker.open(run_in(tmp_path))
    assert known.startswith("mine-")  # and more: another run may have the same name
    tracker.metrics([Event("epochs", 0, 0, {"loss/train": 1.5})])
    tracker.picture("curves", image.getvalue(), 0)
    tracker.file(tmp_path / "run.json")
    tracker.close("interrupted")
    second = TrackioTracker()
    assert second.open(run_in(tmp_path, known=known)) == known
    second.metrics([Event("epochs", 1, 1, {"loss/train": 0.5})])
    second.close("completed")
    assert list(STORE) == [known] and len(trackio) == 2
    kept = STORE[known]
    assert kept["config"] == {"seed": 3, "run": {"version.keras": "3"}}
    assert kept["logged"][0] == (0, {"loss/train": 1.5})
    assert kept["logged"][1][1]["pictures/curves"].size == (7, 5)
    assert kept["logged"][2:] == [
        (None, {"status": "interrupted"}), (1, {"loss/train": 0.5}), (None, {"status": "completed"}),
    ]  # fmt: skip
    assert kept["files"] == [(f"{known}-run.json", "run")]


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_the_stand_in_has_the_signatures_of_the_package():
    import trackio  # type: ignore[import-not-found]

    for mine, theirs in (
        (init, trackio.init), (Run.log, trackio.Run.log), (Picture, trackio.Image),
        (Run.log_artifact, trackio.Run.log_artifact),
    ):  # fmt: skip
        assert list(inspect.signature(mine).parameters) == list(
            inspect.signature(theirs).parameters
        )

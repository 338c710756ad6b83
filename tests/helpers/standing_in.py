"""A tracker that notes what it is told, and what drives it."""

from PIL import Image

from finetune.config.schema import TrackersConfig
from finetune.reporting.trackers.listener import TrackersListener


class Notes:
    """Notes every call; raises in the one that is named `fails`."""

    def __init__(self, fails=None, error=None):
        self.calls = []
        self.events = []
        self.run = None
        self._fails, self._error = fails, error or RuntimeError("no")

    def _note(self, name, *given):
        self.calls.append((name, *given))
        print("a greeting")
        if name == self._fails:
            raise self._error

    def open(self, run):
        self.run = run
        self._note("open")
        return run.known or "first"

    def metrics(self, events):
        self._note("metrics", len(events))
        self.events += events

    def picture(self, name, png, step):
        self._note("picture", name, png, step)

    def file(self, path):
        self._note("file", path.name)

    def close(self, status):
        self._note("close", status)


def listening(trackers, directory, settings=None, failed=print):
    """Returns the listener that drives these trackers."""
    return TrackersListener(trackers, settings or TrackersConfig(), directory, failed)


def written(directory):
    """Writes what other listeners write into a run directory: a file and a picture of 7 x 5."""
    (directory / "run.json").write_text("{}")
    (directory / "plots").mkdir()
    Image.new("RGB", (7, 5)).save(directory / "plots" / "curves.png")

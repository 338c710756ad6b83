"""Trackio through its library, in its own store (`TRACKIO_DIR`), which ``trackio show`` opens."""

import io
import secrets
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event


class TrackioTracker:
    """Records a run in Trackio's local store, or where its environment variables point."""

    def __init__(self) -> None:
        self._run: Any = None

    def open(self, run: TrackedRun) -> str:
        """Starts a run, or continues a known one; Trackio identifies runs by name."""
        self._trackio = import_module("trackio")  # the type checker may not have the package
        name = run.known or f"{run.name}-{secrets.token_hex(3)}"
        self._run = self._trackio.init(
            project=run.project,
            name=name,
            group=run.group,
            config={**run.config, "run": run.tags},
            resume="never" if run.known is None else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return name

    def metrics(self, events: Sequence[Event]) -> None:
        """Logs each event at its step."""
        for event in events:
            self._run.log(dict(event.values), step=event.step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Logs the picture as ``pictures/NAME``."""
        from PIL import Image

        image = self._trackio.Image(Image.open(io.BytesIO(png)))
        self._run.log({f"pictures/{name}": image}, step=step)

    def file(self, path: Path) -> None:
        """Logs the file as an artifact of the run."""
        self._run.log_artifact(str(path), name=f"{self._run.name}-{path.name}", type="run")

    def close(self, status: str) -> None:
        """Logs the status as a metric, because Trackio has no field for it, and ends the run."""
        self._run.log({"status": status})
        self._trackio.finish()

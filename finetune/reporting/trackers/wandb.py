"""Weights & Biases through its library."""

import io
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event

OPEN_SECONDS, CLOSE_SECONDS = 20.0, 60.0  # network timeouts


class WandbTracker:
    """Records a run in ``RUN_DIR/wandb``, and uploads it if the mode is online.

    Args:
        mode: ``offline`` or ``online``; None for the variable ``WANDB_MODE``, or else offline.
    """

    def __init__(self, mode: str | None) -> None:
        self._mode = mode
        self._run: Any = None

    def open(self, run: TrackedRun) -> str:
        """Starts a run, or continues the one with a known identifier.

        Raises:
            RuntimeError: If the mode is online and there is no login.
        """
        import wandb

        self._wandb = wandb
        mode: Any = self._mode or os.environ.get("WANDB_MODE") or "offline"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("not logged in: run wandb login, or set trackers.wandb_mode=offline")
        settings = wandb.Settings(
            silent=True,
            console="off",  # do not record the terminal
            symlink=False,  # copy files, because the run directory may move
            disable_code=True,
            disable_git=True,  # do not upload the user's uncommitted changes
            init_timeout=OPEN_SECONDS,
            login_timeout=OPEN_SECONDS,
            finish_timeout=CLOSE_SECONDS,
        )
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            group=run.group,
            dir=str(run.directory),
            id=run.known or secrets.token_hex(4),
            resume="allow" if run.known is not None else None,
            mode=mode,
            reinit="create_new",
            settings=settings,
        )
        self._tags = run.tags
        about = {**run.config, "run": {**run.tags, "status": "running"}}
        self._run.config.update(about, allow_val_change=True)
        return self._run.id

    def metrics(self, events: Sequence[Event]) -> None:
        """Logs each event at its step."""
        for event in events:
            self._run.log(event.values, step=event.step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Logs the picture as ``pictures/NAME``."""
        from PIL import Image

        image = self._wandb.Image(Image.open(io.BytesIO(png)))
        self._run.log({f"pictures/{name}": image}, step=step)

    def file(self, path: Path) -> None:
        """Saves the file among the run's files."""
        self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self, status: str) -> None:
        """Ends the run; any status but completed counts as failed."""
        self._run.config.update({"run": {**self._tags, "status": status}}, allow_val_change=True)
        self._run.finish(exit_code=0 if status == "completed" else 1)

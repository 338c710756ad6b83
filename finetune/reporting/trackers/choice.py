"""Which trackers a config asks for, and whether their packages are there; imports none of them."""

from importlib.util import find_spec
from pathlib import Path

from finetune.config.schema import TRACKERS, TrackersConfig
from finetune.errors import ConfigError
from finetune.launcher import installing
from finetune.reporting.trackers.mlflow import MlflowTracker
from finetune.reporting.trackers.protocol import Tracker
from finetune.reporting.trackers.tensorboard import TensorBoardTracker
from finetune.reporting.trackers.trackio import TrackioTracker
from finetune.reporting.trackers.wandb import WandbTracker


def chosen(settings: TrackersConfig, directory: Path) -> dict[str, Tracker]:
    """Returns the trackers of a run by the names that people know them by; none is opened.

    Args:
        settings: checked.
        directory: the run directory.
    """
    trackers: dict[str, Tracker] = {
        "TensorBoard": TensorBoardTracker(directory / "tensorboard"),
        "MLflow": MlflowTracker(settings.mlflow_uri),
        "Weights & Biases": WandbTracker(settings.wandb_mode),
        "Trackio": TrackioTracker(),
    }
    asked = {title: getattr(settings, key) for key, title in TRACKERS.items()}
    return {name: each for name, each in trackers.items() if asked.get(name, True)}


def require_installed(settings: TrackersConfig) -> None:
    """Refuses a tracker whose package is not there, before anything is spent.

    Raises:
        ConfigError: naming what to install, for each of them.
    """
    problems = [
        f"trackers.{key} must be false where {title} is not installed. Received: true. Install it: "
        f"{installing(key)}."
        for key, title in TRACKERS.items()
        if getattr(settings, key) and find_spec(key) is None
    ]
    if problems:
        raise ConfigError(problems)

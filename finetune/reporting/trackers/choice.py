"""Selects the trackers of a config and checks that their packages exist, without importing them."""

from importlib.util import find_spec
from pathlib import Path

from finetune.config import plugins
from finetune.config.schema import TRACKERS, TrackersConfig
from finetune.errors import ConfigError
from finetune.launcher import installing
from finetune.reporting.trackers.mlflow import MlflowTracker
from finetune.reporting.trackers.protocol import Tracker
from finetune.reporting.trackers.tensorboard import TensorBoardTracker
from finetune.reporting.trackers.trackio import TrackioTracker
from finetune.reporting.trackers.wandb import WandbTracker


def mlflow(settings: TrackersConfig) -> Tracker:
    """Makes the tracker that keeps runs in MLflow."""
    return MlflowTracker(settings.mlflow_uri)


def wandb(settings: TrackersConfig) -> Tracker:
    """Makes the tracker that keeps runs in Weights & Biases."""
    return WandbTracker(settings.wandb_mode)


def trackio(_settings: TrackersConfig) -> Tracker:
    """Makes the tracker that keeps runs in Trackio."""
    return TrackioTracker()


def chosen(settings: TrackersConfig, directory: Path) -> dict[str, Tracker]:
    """Returns the trackers of a run by their readable names, without opening them.

    Args:
        settings: Checked config of the trackers.
        directory: Run directory.

    Raises:
        ConfigError: If the tracker of a plug-in cannot be created.
    """
    trackers: dict[str, Tracker] = {
        "TensorBoard": TensorBoardTracker(directory / "tensorboard"),
    }
    for key in _asked(settings):
        trackers[TRACKERS.get(key, key)] = plugins.call(
            "trackers", key, f"trackers.{key}", settings
        )
    return trackers


def _asked(settings: TrackersConfig) -> list[str]:
    return [key for key in plugins.names("trackers") if getattr(settings, key, None) is True]


def require_installed(settings: TrackersConfig) -> None:
    """Checks that the packages of the requested trackers are installed.

    Raises:
        ConfigError: If packages are missing or plug-ins cannot be imported; the message names them.
    """
    problems = [
        f"trackers.{key} must be false where {title} is not installed. Received: true. Install it: "
        f"{installing(key)}."
        for key, title in TRACKERS.items()
        if getattr(settings, key) and find_spec(key) is None
    ]
    for key in _asked(settings):
        try:
            plugins.load("trackers", key, f"trackers.{key}")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)

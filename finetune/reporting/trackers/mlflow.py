"""MLflow through its client, without a global run and without autologging."""

import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from finetune.launcher import tool
from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event, flatten

# Defaults that the environment can override: a short timeout, no telemetry, and permission to use
# the file store, which MLflow 3.17 no longer develops.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
FOLDERS = ("outputs", "multirun")  # folders in which Hydra and FineTuner create runs
MOST_PARAMS, MOST_METRICS = 100, 1000  # limits of one request
Item = TypeVar("Item")


@contextmanager
def _environment() -> Iterator[None]:
    """Sets the missing variables of `ENVIRONMENT` and removes them afterwards."""
    added = {key: value for key, value in ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


class MlflowTracker:
    """Records a run in an MLflow store.

    Args:
        uri: URI of the store; None for the default of `store`.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self.where: str | None = None
        self._client: Any = None
        self._run = ""

    @_environment()
    def open(self, run: TrackedRun) -> str:
        """Creates a run in the experiment of the project, or sets a known run to running."""
        import mlflow.entities
        from mlflow.tracking import MlflowClient

        self._entities = mlflow.entities
        self.where = run.where or store(self._uri, run.directory)
        self._client = MlflowClient(self.where)
        tags = {**run.tags, "status": "running"}
        if run.group is not None:
            tags["group"] = run.group
        if run.known is None:
            experiment = self._experiment(run.project)
            made = self._client.create_run(experiment, run_name=run.name, tags=tags)
            self._run = made.info.run_id
            params = [
                mlflow.entities.Param(named(k), str(v)) for k, v in flatten(run.config).items()
            ]
            for some in _parts(params, MOST_PARAMS):
                self._client.log_batch(self._run, params=some)
        else:
            self._run = run.known
            self._client.update_run(self._run, status="RUNNING")
            self._client.log_batch(
                self._run, tags=[mlflow.entities.RunTag(k, v) for k, v in tags.items()]
            )
        return self._run

    def _experiment(self, name: str) -> str:
        """Returns the identifier of an experiment, and creates it if necessary."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)  # a parallel run has created it
        return found.experiment_id

    @_environment()
    def metrics(self, events: Sequence[Event]) -> None:
        """Logs all events in batches."""
        now = int(1000 * time.time())
        metrics = [
            self._entities.Metric(named(name), float(value), now, event.step)
            for event in events
            for name, value in event.values.items()
        ]
        for some in _parts(metrics, MOST_METRICS):
            self._client.log_batch(self._run, metrics=some)

    @_environment()
    def picture(self, name: str, png: bytes, step: int) -> None:
        """Logs the artifact ``plots/NAME.png``."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            file.write_bytes(png)
            self._client.log_artifact(self._run, str(file), "plots")

    @_environment()
    def file(self, path: Path) -> None:
        """Logs the file as an artifact."""
        self._client.log_artifact(self._run, str(path))

    @_environment()
    def close(self, status: str) -> None:
        """Ends the run with its status."""
        self._client.set_tag(self._run, "status", status)
        self._client.set_terminated(self._run, STATUS.get(status, "FAILED"))


def store(uri: str | None, directory: Path) -> str:
    """Returns the URI of the store for a run.

    All runs share a store, because MLflow's page shows one store. It is the given one, that of the
    variable ``MLFLOW_TRACKING_URI``, or the folder ``mlruns`` beside the folder ``outputs`` or
    ``multirun`` that contains the run, or in the working directory.

    Args:
        uri: URI in the config.
        directory: Run directory.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    folders = [folder for folder in directory.absolute().parents if folder.name in FOLDERS]
    place = folders[0].parent if folders else Path.cwd()
    return (place / "mlruns").as_uri()


def opening(uri: str) -> str:
    """Returns the command that shows a store, quoted for a shell, or the address of a server."""
    if uri.startswith(("http://", "https://")):
        return uri
    command = f"{tool('mlflow')} {shlex.join(['ui', '--backend-store-uri', uri])}"
    return f"MLFLOW_ALLOW_FILE_STORE=true {command}" if uri.startswith("file:") else command


def named(name: str) -> str:
    """Returns a parameter or metric name that MLflow accepts, which it also uses as a file name.

    >>> named("learning_rate/../my [stage]")
    'learning_rate/_/my _stage_'
    """
    parts = re.sub(r"[^/\w.\- :]", "_", name)[:250].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def _parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]

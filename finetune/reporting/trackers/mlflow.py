"""MLflow, by its client: no global run, no autologging."""

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

# Unless the environment says otherwise: a server that does not answer is given up soon, MLflow
# reports nothing of its use, and the file store, which MLflow 3.17 no longer develops, opens.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
FOLDERS = ("outputs", "multirun")  # that Hydra and FineTuner put runs into
MOST_PARAMS, MOST_METRICS = 100, 1000  # that MLflow takes at once
Item = TypeVar("Item")


@contextmanager
def _environment() -> Iterator[None]:
    """Sets what the environment does not say; nothing of it is left behind."""
    added = {key: value for key, value in ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


class MlflowTracker:
    """Keeps a run in an MLflow store.

    Args:
        uri: of the store; None: see `store`.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self.where: str | None = None
        self._client: Any = None
        self._run = ""

    @_environment()
    def open(self, run: TrackedRun) -> str:
        """Makes a run in the experiment named as the project, or sets a known one running."""
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
        """Returns the identifier of an experiment, made if it is not there."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)  # a run beside this one made it
        return found.experiment_id

    @_environment()
    def metrics(self, events: Sequence[Event]) -> None:
        """Logs all at once."""
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
        """Keeps it as the artifact ``plots/NAME.png``."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            file.write_bytes(png)
            self._client.log_artifact(self._run, str(file), "plots")

    @_environment()
    def file(self, path: Path) -> None:
        """Keeps it as an artifact."""
        self._client.log_artifact(self._run, str(path))

    @_environment()
    def close(self, status: str) -> None:
        """Ends the run with its status."""
        self._client.set_tag(self._run, "status", status)
        self._client.set_terminated(self._run, STATUS.get(status, "FAILED"))


def store(uri: str | None, directory: Path) -> str:
    """Returns the URI of the store that keeps a run.

    It is one for all runs, as MLflow's page shows those of one store: the given one, that of the
    environment (``MLFLOW_TRACKING_URI``), or the files in ``mlruns``, beside the folder ``outputs`` or
    ``multirun`` that the run is in, else in the working directory.

    Args:
        uri: as the config has it.
        directory: the run directory.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    folders = [each for each in directory.absolute().parents if each.name in FOLDERS]
    place = folders[0].parent if folders else Path.cwd()
    return (place / "mlruns").as_uri()


def opening(uri: str) -> str:
    """Returns the command that shows a store, quoted for a shell; of a server its address."""
    if uri.startswith(("http://", "https://")):
        return uri
    command = f"{tool('mlflow')} {shlex.join(['ui', '--backend-store-uri', uri])}"
    return f"MLFLOW_ALLOW_FILE_STORE=true {command}" if uri.startswith("file:") else command


def named(name: str) -> str:
    """Returns a name of a parameter or metric as MLflow takes it, which makes it a file's.

    >>> named("learning_rate/../my [stage]")
    'learning_rate/_/my _stage_'
    """
    parts = re.sub(r"[^/\w.\- :]", "_", name)[:250].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def _parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]

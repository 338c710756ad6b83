"""The public Python API: trains a user's own Keras model through a schedule of phases."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
from omegaconf import OmegaConf

from finetune.backbones import saving
from finetune.backbones.loading import weights_sha256
from finetune.backbones.own import StageRule, own_stages
from finetune.backbones.own_preprocessing import preprocessed, preprocessor_of, set_aside
from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.config.schema import GROUPS, BackboneConfig, Config
from finetune.config.texts import kind_of
from finetune.datasets.assemble import finish
from finetune.datasets.dataset import Dataset, Found
from finetune.datasets.python.data import Data, input_dtypes, read_splits
from finetune.datasets.readers import ArrayReader
from finetune.errors import ConfigError
from finetune.freezing.inventory import take_inventory
from finetune.keras_internals import flatten
from finetune.record.schema import OWN, RunRecord
from finetune.reporting.terminal.console import make_console
from finetune.reporting.trackers.choice import require_installed
from finetune.runs import preview
from finetune.runs.planned_run import (
    Origin,
    PlannedRun,
    TaskModel,
    make_built,
    make_objective,
    plan_run,
)
from finetune.runs.resume import InterruptedRun, read_run
from finetune.runs.run import Session, execute, require_same
from finetune.storage.run_directory import expanded, locked, refuse_occupied
from finetune.tasks.objective import Objective
from finetune.tasks.own_model import (
    class_names,
    objective_of,
    require_called_as_keras,
    require_writable,
)
from finetune.training.device import prepare, state_kept

_OVERRIDES = (
    "schedule",
    "optimizer",
    "features",
    "trackers",
    "runtime.device",
    "runtime.deterministic",
    "runtime.steps_per_execution",
    "runtime.checkpoint_minutes",
    "seed",
    "dataset.batch_size",
    "dataset.class_weights",
    "head.standardise",
    "metrics",
)


class FineTuner:
    """Trains a Keras model through a schedule, as the command line trains KerasHub models.

    It freezes weights by plan, counts them, trains, stores what a frozen prefix computes, proves that
    no frozen weight has changed, and writes the run directory.

    Args:
        model: A built functional or sequential model of any layers. Its outputs are (batch, classes)
            logits, or probabilities of a softmax or sigmoid. A KerasHub task applies its
            preprocessor to the data, as its own ``fit`` does. The weights are trained in place. The
            `trainable` flags do not matter and are restored; call `compile` again afterwards.
        schedule: Name of a config (``linear_probe``, ``progressive``, ``full``, …), or a mapping as
            in YAML: ``{"phases": {"head": {"epochs": 5, "learning_rate": 1e-3, "freeze":
            {"policy": "depth", "unfreeze_depth": 0}}}}``.
        stages: The layers of each stage, see `finetune.backbones.own.own_stages`. None: the stages
            of the model inside the model, or of everything below the last layer with weights.
        classes: Label names in the order of the outputs; None: their numbers.
        overrides: Other settings as on the command line: ``["optimizer=sgd",
            "dataset.batch_size=16", "features.cache=never", "seed=1"]``.
        directory: The run directory, in which there is no run yet; None: ``outputs/DATE/TIME``.
        verbose: Whether the terminal shows the run.

    Raises:
        ConfigError: If an argument does not fit.
    """

    def __init__(
        self,
        model: keras.Model,
        schedule: str | Mapping[str, Any] = "linear_probe",
        *,
        stages: StageRule | None = None,
        classes: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
        directory: str | Path | None = None,
        verbose: bool = True,
    ) -> None:
        require_writable(model)
        require_called_as_keras(model)
        preprocessor_of(model)
        self.model = model
        self._config = _config(model, schedule, overrides)
        self._overrides = tuple(overrides)
        self._stages = own_stages(model, stages)
        self._objective = objective_of(model)
        self._classes = class_names(classes, self._objective.num_classes)
        self._directory = None if directory is None else expanded(directory, "directory")
        self._console = make_console(quiet=not verbose)

    def fit(
        self,
        train: Data,
        validation: Data,
        test: Data | None = None,
        *,
        resume: bool = False,
        allow_changed: bool = False,
    ) -> RunRecord:
        """Trains through all phases and writes the run directory.

        Args:
            train: Training data.
            validation: Data on which the model is evaluated after each epoch.
            test: Data on which the trained model is evaluated once.
            resume: Whether to resume the run in `directory` exactly, with the same model, data and
                settings; the current weights of the model do not matter then.
            allow_changed: Whether settings, data and libraries may differ when a run resumes.

        Returns:
            The content of ``run.json``: counts, proofs and metrics of each phase.

        Raises:
            ConfigError: If the data do not fit the model, or the model cannot have a phase.
            FrozenWeightsError: If a weight that a phase holds has changed.
        """
        started, now = time.time(), datetime.now()
        default = Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}"
        directory = default if self._directory is None else self._directory
        with _as_found(self.model) as preprocessor:
            run = self._run(train, validation, test, preprocessor)
            run = replace(run, seconds={"building": time.time() - started})
            session = Session(directory, self._console, started, self._overrides)
            with locked(directory):
                if resume:
                    interrupted = self._interrupted(directory, run, allow_changed)
                    return execute(run, session, interrupted)
                refuse_occupied(directory, "directory", "fit(…, resume=True)")
                return execute(run, session)

    def _interrupted(self, directory: Path, run: PlannedRun, allow_changed: bool) -> InterruptedRun:
        interrupted = read_run(directory, self._config, allow_changed)
        if interrupted is None:
            raise ConfigError(
                "directory must hold a run that has not completed. Received: "
                f"{directory}, whose run is completed. Leave resume out to train in another directory."
            )
        return require_same(run, directory, interrupted, allow_changed)

    def inspect(self, train: Data, validation: Data) -> None:
        """Shows stages, plan and weight counts of every phase; trains and writes nothing."""
        with _as_found(self.model) as preprocessor:
            run = self._run(train, validation, None, preprocessor)
            preview.show(run, self._console)

    def check(self, train: Data, validation: Data) -> None:
        """Runs one real step of each phase and restores the weights of the model."""
        with _as_found(self.model) as preprocessor:
            run = self._run(train, validation, None, preprocessor)
            before = self.model.get_weights()
            try:
                preview.try_out(run, self._console)
            finally:
                self.model.set_weights(before)

    def _run(
        self, train: Data, validation: Data, test: Data | None, preprocessor: Any = None
    ) -> PlannedRun:
        given = {"train": train, "validation": validation, "test": test}
        given = preprocessed(given, preprocessor)
        splits = read_splits(self.model, self._classes, given)
        dataset = finish("memory", [], self._classes, splits, "array", [], Found())
        objective = self._fitting(dataset)
        runtime = self._config.runtime
        # The model exists already, so its own precision counts.
        precisions = sorted({layer.dtype_policy.name for layer in flatten(self.model)})
        device = prepare(
            runtime.device, None, runtime.deterministic, self._config.seed, clear=False
        )
        if keras.config.floatx() != "float32":  # of losses and metrics
            precisions.append(f"floatx {keras.config.floatx()}")
        device = replace(device, precision=", ".join(precisions))
        labels = {"classes": list(self._classes), "multi_label": dataset.multi_label}

        def save(directory: Path, card: str) -> None:
            saving.save_task(self.model, directory, labels, preprocessor, card=card)

        model = TaskModel(
            inventory=take_inventory(self.model, self._stages),
            objective=objective,
            origin=Origin(self.model.name, OWN, weights_sha256(self.model)),
            reader=ArrayReader(input_dtypes(self.model)),
            save=save,
        )
        built = make_built(model, dataset, device, self._config.dataset.class_weights)
        return plan_run(built, self._config)

    def _fitting(self, dataset: Dataset) -> Objective:
        """Returns the objective on which the labels and the outputs of the model agree."""
        num_classes, from_logits = self._objective.num_classes, self._objective.from_logits
        made = make_objective(dataset, self._config.dataset, num_classes)
        if not from_logits and made.kind != self._objective.kind:
            raise ConfigError(
                f"labels must be of the kind that the model was built for: its outputs are "
                f"probabilities of {self._objective.kind} an example. Received: labels of "
                f"{made.kind}, {dataset.splits['train'].labels.shape}. Give class indices (n,) to "
                "a softmax, 0 and 1 (n, classes) to a sigmoid, or let the model return logits."
            )
        return Objective(made.kind, num_classes, from_logits)


@contextmanager
def _as_found(model: keras.Model) -> Iterator[Any]:
    """Restores the user's `trainable` flags and the global state of the process.

    Yields:
        The preprocessor of a KerasHub task, which the model lacks within the block; or None.
    """
    preprocessor = preprocessor_of(model)
    layers = [(layer, layer.trainable) for layer in flatten(model)]
    variables = [(variable, variable.trainable) for variable in model.weights]
    try:
        with state_kept(), set_aside(model):
            yield preprocessor
    finally:
        for layer, trainable in layers:
            layer.trainable = not trainable  # assigning the current value would do nothing
            layer.trainable = trainable
        for variable, trainable in variables:
            variable.trainable = trainable


def _config(
    model: keras.Model, schedule: str | Mapping[str, Any], overrides: Sequence[str]
) -> Config:
    """Returns the checked config of the command line with the schedule."""
    if isinstance(overrides, str):
        raise ConfigError(
            f"overrides must be a list of key=value. Received: {overrides}. Write [{overrides!r}]."
        )
    refused = [override for override in overrides if not _allowed(override)]
    if refused:
        raise ConfigError(
            f"overrides must be of {', '.join(_OVERRIDES)}: the rest is the model's and the "
            f"data's. Received: {', '.join(refused)}. Remove them."
        )
    if isinstance(schedule, str):
        node = compose_config([f"schedule={schedule}", *overrides])
    elif isinstance(schedule, Mapping):
        twice = [o for o in overrides if _key(o).partition(".")[0] == "schedule"]
        if twice:
            raise ConfigError(
                "overrides must not change a schedule that is passed as a mapping. Received: "
                f"{', '.join(twice)}. Change the mapping instead."
            )
        plain = OmegaConf.to_container(compose_config(["schedule=linear_probe", *overrides]))
        node = OmegaConf.create({**plain, "schedule": {"phases": {}, **schedule}})  # type: ignore[dict-item]
    else:
        raise ConfigError(
            "schedule must be the name of a config or a mapping. Received: "
            f"{type(schedule).__name__}. Use 'linear_probe', or {{'phases': {{…}}}}."
        )
    config = read(node)
    require_installed(config.trackers)
    config.backbone = BackboneConfig(name=model.name)
    config.dataset.name = "memory"
    return config


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _allowed(override: str) -> bool:
    key = _key(override)
    if kind_of(key) is None and key not in GROUPS and re.fullmatch(r"(?!hydra)[\w.]+", key):
        return True  # an unknown key: the composition suggests the nearest one
    return key != "schedule" and any(
        key == allowed or key.startswith(f"{allowed}.") for allowed in _OVERRIDES
    )

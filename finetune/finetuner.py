"""The public Python API: a Keras model of the user's own through a schedule of phases."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf

from finetune import runs
from finetune.backbones import saving
from finetune.backbones.loading import weights_sha256
from finetune.backbones.own import StageRule, own_stages
from finetune.building import Built, Origin, Run, make_examples, make_objective, plan_run
from finetune.composition import compose_config
from finetune.config import BackboneConfig, Config
from finetune.datasets.dataset import Dataset, Split, make_dataset
from finetune.datasets.readers import ArrayReader
from finetune.errors import ConfigError
from finetune.freezing.inventory import take_inventory
from finetune.reading import read
from finetune.record import RunRecord
from finetune.training.device import prepare
from finetune.training.objective import ONE, SEVERAL, Objective
from finetune.training.programs import Programs

Data = tuple[Any, Any] | tf.data.Dataset
"""(inputs, labels), or a batched, finite `tf.data.Dataset` of such pairs.

Inputs are an array, or a dictionary of arrays as the model takes it, prepared as the model wants
them. Labels are (n,) class indices, or (n, classes) of 0 and 1 where an example may have several.
"""


_OVERRIDES = (
    "schedule.",
    "optimizer",
    "features",
    "runtime",
    "seed",
    "dataset.batch_size",
    "dataset.class_weights",
    "head.standardise",
)


class FineTuner:
    """Trains a model through a schedule, as the command line does for KerasHub's.

    Freezes by plan, counts, trains, stores what a frozen prefix computes, proves that nothing
    frozen moved, and writes the run directory.

    Args:
        model: functional or sequential, built, of any layers; its outputs are (batch, classes)
            logits, or probabilities of a softmax or sigmoid. It is trained in place.
        schedule: the name of a config (``linear_probe``, ``progressive``, ``full``, …), or a
            mapping as in YAML: ``{"phases": {"head": {"epochs": 5, "learning_rate": 1e-3,
            "freeze": {"policy": "depth", "unfreeze_depth": 0}}}}``.
        stages: which layers are which stage, see `finetune.backbones.own.own_stages`. None: the
            stages of the model inside the model, or of all that is below the last layer with
            weights.
        classes: label names in the order of the outputs; None: their numbers.
        overrides: anything else as on the command line: ``["optimizer=sgd",
            "dataset.batch_size=16", "features.cache=never", "seed=1"]``.
        directory: the run directory; None: ``outputs/DATE/TIME``.
        verbose: whether the terminal shows the run.

    Raises:
        ConfigError: for whatever in these does not fit.
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
        _require_writable(model)
        self.model = model
        self._config = _config(model, schedule, overrides)
        self._overrides = tuple(overrides)
        self._stages = own_stages(model, stages)
        self._objective = _objective(model)
        self._classes = _names(classes, self._objective.num_classes)
        now = datetime.now()
        default = Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}"
        self._directory = default if directory is None else Path(directory)
        self._console = runs.make_console(quiet=not verbose)

    def fit(self, train: Data, validation: Data, test: Data | None = None) -> RunRecord:
        """Trains through all phases and writes the run directory.

        Args:
            train: what is learned from.
            validation: what each epoch is measured on.
            test: what the trained model is measured on, once.

        Returns:
            What ``run.json`` holds: counts, proofs and metrics of each phase.

        Raises:
            ConfigError: for data that do not fit the model, and phases that it cannot have.
            FrozenWeightsError: if a weight that a phase holds still has moved.
        """
        started = time.time()
        run = self._run(train, validation, test)
        self._directory.mkdir(parents=True, exist_ok=True)
        return runs.execute(
            run, self._config, self._directory, self._overrides, started, self._console
        )

    def inspect(self, train: Data, validation: Data) -> None:
        """Shows stages, plan and weight counts of every phase; trains and writes nothing."""
        runs.show(self._run(train, validation, None), self._config, self._console)

    def check(self, train: Data, validation: Data) -> None:
        """Runs one real step of each phase and keeps the model's weights as they were."""
        run = self._run(train, validation, None)
        before = self.model.get_weights()
        try:
            runs.try_out(run, self._config, self._console)
        finally:
            self.model.set_weights(before)

    def _run(self, train: Data, validation: Data, test: Data | None) -> Run:
        given = {"train": train, "validation": validation, "test": test}
        num_classes = self._objective.num_classes
        splits = {
            name: _split(name, data, num_classes)
            for name, data in given.items()
            if data is not None
        }
        dataset = make_dataset("memory", [], self._classes, splits, "array")
        objective = self._fitting(dataset)
        runtime = self._config.runtime
        device = prepare(
            runtime.device, runtime.precision, runtime.deterministic, self._config.seed
        )
        inventory = take_inventory(self.model, self._stages)
        labels = {"classes": list(self._classes), "multi_label": dataset.multi_label}
        built = Built(
            device=device,
            dataset=dataset,
            examples=make_examples(
                dataset, ArrayReader(), objective, self._config.dataset.class_weights
            ),
            origin=Origin(self.model.name, "own", weights_sha256(self.model)),
            inventory=inventory,
            programs=Programs(inventory, objective),
            save=lambda directory: saving.save_task(self.model, directory, labels),
        )
        return plan_run(built, self._config)

    def _fitting(self, dataset: Dataset) -> Objective:
        """Returns the objective that the labels and the outputs of the model agree on."""
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


def _config(
    model: keras.Model, schedule: str | Mapping[str, Any], overrides: Sequence[str]
) -> Config:
    """Returns the config of the command line with the schedule, checked."""
    refused = [each for each in overrides if not each.lstrip("+~").startswith(_OVERRIDES)]
    if refused:
        raise ConfigError(
            f"overrides must be of {', '.join(_OVERRIDES)}: the rest is the model's and the "
            f"data's. Received: {', '.join(refused)}. Remove them."
        )
    name = schedule if isinstance(schedule, str) else "linear_probe"
    node = compose_config([f"schedule={name}", *overrides])
    if not isinstance(schedule, str):
        plain = OmegaConf.to_container(node)
        node = OmegaConf.create({**plain, "schedule": {"phases": {}, **schedule}})  # type: ignore[dict-item]
    config = read(node)
    config.backbone = BackboneConfig(name=model.name)
    config.dataset.name = "memory"
    return config


def _objective(model: keras.Model) -> Objective:
    """Returns what the outputs of a model are made for; logits suit one label and several."""
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ConfigError(
            "model must have one output of shape (batch, classes), with at least 2 classes. "
            f"Received: {model.name} with {shape}. End it with keras.layers.Dense(classes)."
        )
    last = model.layers[-1]
    activation = getattr(last, "activation", keras.activations.linear)
    kinds = {keras.activations.softmax: ONE, keras.activations.sigmoid: SEVERAL}
    if isinstance(last, keras.layers.Softmax):
        activation = keras.activations.softmax
    if activation not in (keras.activations.linear, *kinds):
        raise ConfigError(
            "model must end with logits (no activation), softmax or sigmoid. Received: "
            f"{getattr(activation, '__name__', activation)} in layer {last.name}. Change it."
        )
    return Objective(kinds.get(activation, ONE), shape[1], activation not in kinds)


def _require_writable(model: keras.Model) -> None:
    """Refuses before training what could not be saved after it."""
    try:
        keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model must be one that Keras can save. Received: {model.name} "
            f"({(str(error).strip().splitlines() or [type(error).__name__])[0]}). Give its custom "
            "layers a get_config."
        ) from error


def _names(classes: Sequence[str] | None, number: int) -> tuple[str, ...]:
    names = tuple(map(str, range(number))) if classes is None else tuple(classes)
    if len(names) != number or len(set(names)) != number:
        raise ConfigError(
            f"classes must be {number} different names, one for each output of the model. "
            f"Received: {len(names)} ({', '.join(names[:10])}). Name each output once."
        )
    return names


def _split(name: str, data: Data, num_classes: int) -> Split:
    """Reads the examples of a split into memory and checks them."""
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ConfigError(
                f"{name} must end: it is read into memory once. Received: a tf.data.Dataset "
                "without end. Leave repeat() out; the schedule says how often it is gone through."
            )
        pairs = [(each[0], each[1]) for each in data.as_numpy_iterator()]
        whole: Any = keras.tree.map_structure(lambda *each: np.concatenate(each), *pairs)
        inputs, labels = whole
    elif isinstance(data, tuple) and len(data) == 2:
        inputs, labels = keras.tree.map_structure(np.asarray, data[0]), np.asarray(data[1])
    else:
        raise ConfigError(
            f"{name} must be a tuple (inputs, labels) or a batched tf.data.Dataset of such pairs. "
            f"Received: {type(data).__name__}. Pass {name}=(x, y)."
        )
    labels = _labels(name, labels, num_classes)
    lengths = {len(each) for each in keras.tree.flatten(inputs)}
    if lengths != {len(labels)} or not len(labels):
        raise ConfigError(
            f"{name} must have as many inputs as labels, at least one. Received: "
            f"{', '.join(map(str, sorted(lengths)))} inputs, {len(labels)} labels."
        )
    return Split(name, inputs, labels)


def _labels(name: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.dtype != object and np.array_equal(labels, labels.astype(np.int64))
    if labels.ndim == 1 and whole and ((0 <= labels) & (labels < num_classes)).all():
        return labels.astype(np.int64)
    if (
        labels.ndim == 2
        and whole
        and labels.shape[1] == num_classes
        and set(np.unique(labels)) <= {0, 1}
    ):
        return labels.astype(np.uint8)
    raise ConfigError(
        f"{name} must have labels 0..{num_classes - 1}, shape (n,), or 0 and 1, shape (n, "
        f"{num_classes}): the model has {num_classes} outputs. Received: {labels.dtype} "
        f"{labels.shape} from {labels.min() if labels.size else '–'} to "
        f"{labels.max() if labels.size else '–'}. Number the classes from 0, or give the model as "
        "many outputs as there are classes."
    )

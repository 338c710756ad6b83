"""A run before it trains: its data and model, its phases with their plans, and its settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetune.config.schema import Config, DatasetConfig
from finetune.datasets.dataset import Dataset
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import Reader
from finetune.errors import ConfigError
from finetune.evaluation.named import metric as require_metric
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan, make_plan
from finetune.runs.settings import RunSettings, run_settings
from finetune.schedule.expand import expand
from finetune.schedule.phase import Phase
from finetune.tasks.objective import MIXED, MULTI_LABEL, ONE, Objective, balanced_weights
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.device import Device


@dataclass(frozen=True)
class Origin:
    """Where the pretrained weights come from, and which preprocessing they need.

    Args:
        name: Name of the backbone.
        source: As in `LoadedBackbone`.
        weights_sha256: Digest of the backbone's weights as loaded.
        weights: How many of the backbone's weights the checkpoint has, ``loaded`` of ``total``, and
            the paths of those that are ``absent`` from it; empty for a user's own model.
        preprocessing: JSON values such as size, scale, mean and tokenizer.
        preprocessing_sha256: Digest of everything that determines the inputs of an example.
    """

    name: str
    source: str
    weights_sha256: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    preprocessing_sha256: str = ""


@dataclass(frozen=True, eq=False)
class TaskModel:
    """A model that is ready to be trained, wherever it came from.

    Args:
        inventory: Inventory of the task model's weights.
        objective: What the model is trained for.
        origin: Where its pretrained weights come from.
        reader: Makes inputs of the model from examples.
        save: Writes the trained model, with the text of its card, to a directory.
    """

    inventory: Inventory
    objective: Objective
    origin: Origin
    reader: Reader
    save: Callable[[Path, str], None]


@dataclass(frozen=True, eq=False)
class Built:
    """Data and model, before any schedule.

    Args:
        device: What the run computes on.
        dataset: All splits.
        examples: The splits with what makes batches of them.
        origin: Where the pretrained weights come from.
        steps: The model, its objective and its compiled steps.
        save: Writes the trained model, with the text of its card, to a directory.
        notices: What a user should know before the training, one line each.
    """

    device: Device
    dataset: Dataset
    examples: Mapping[str, Examples]
    origin: Origin
    steps: CompiledSteps
    save: Callable[[Path, str], None]
    notices: tuple[str, ...] = ()

    @property
    def inventory(self) -> Inventory:
        """Inventory of the task model's weights."""
        return self.steps.inventory

    @property
    def objective(self) -> Objective:
        """What the model is trained for."""
        return self.steps.objective


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """Everything that a run needs; nothing is trained yet.

    Args:
        config: The checked config, which is saved, recorded and shown.
        settings: The values of the config that training uses.
        built: Data and model.
        phases: The schedule, in order.
        plans: Freeze plan of each phase.
        metrics: Names of the metrics of the test split that were asked for.
        seconds: What building took, by part, see `RunRecord.seconds`.
    """

    config: Config
    settings: RunSettings
    built: Built
    phases: tuple[Phase, ...]
    plans: tuple[FreezePlan, ...]
    metrics: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def make_built(
    model: TaskModel,
    dataset: Dataset,
    device: Device,
    class_weights: str,
    *,
    reused: bool = False,
    notices: Sequence[str] = (),
) -> Built:
    """Joins a model and its data.

    Args:
        model: The model to train.
        dataset: All splits.
        device: What the run computes on.
        class_weights: ``none`` or ``balanced``.
        reused: Whether other runs with the same model will follow.
        notices: What a user should know before the training, one line each.
    """
    return Built(
        device=device,
        dataset=dataset,
        examples=make_examples(dataset, model.reader, model.objective, class_weights),
        origin=model.origin,
        steps=CompiledSteps(model.inventory, model.objective, reused),
        save=model.save,
        notices=tuple(notices),
    )


def plan_run(
    built: Built, config: Config, seconds: Mapping[str, float] | None = None
) -> PlannedRun:
    """Resolves every phase of the schedule on the model.

    Args:
        built: Data and model.
        config: The checked config.
        seconds: What building took, by part.

    Raises:
        ConfigError: If the model cannot have a phase of the schedule.
    """
    inventory = built.inventory
    phases = expand(config.schedule, inventory.stage_names)
    plans = tuple(
        make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases
    )
    metrics = _metrics(config, phases, built.objective)
    settings = run_settings(config)
    return PlannedRun(config, settings, built, phases, plans, metrics, seconds or {})


def _metrics(config: Config, phases: Sequence[Phase], objective: Objective) -> tuple[str, ...]:
    """Returns the metrics of the test split: those asked for, and those that phases monitor.

    Raises:
        ConfigError: If one of them is not defined for the data; the message holds every problem.
    """
    named = [("metrics", name) for name in config.metrics]
    named += [(f"{phase.where}.monitor", phase.monitor) for phase in phases]
    problems: list[str] = []
    for where, name in dict.fromkeys(named):
        try:
            require_metric(name, where, objective)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tuple(dict.fromkeys(name for _, name in named))


def make_objective(dataset: Dataset, given: DatasetConfig, num_classes: int) -> Objective:
    """Returns the objective of a model on this dataset.

    Raises:
        ConfigError: If a setting makes no sense for a multi-label dataset.
    """
    if not dataset.multi_label:
        return Objective(ONE if given.mix == "none" else MIXED, num_classes)
    if given.class_weights != "none":
        raise ConfigError(
            "dataset.class_weights must be none where an example may have several labels. "
            f"Received: {given.class_weights}. Set dataset.class_weights=none."
        )
    return Objective(MULTI_LABEL, num_classes)


def make_examples(
    dataset: Dataset, reader: Reader, objective: Objective, class_weights: str
) -> dict[str, Examples]:
    """Returns the splits with their reader, targets, and weights for training."""
    made: dict[str, Examples] = {}
    for name, split in dataset.splits.items():
        weights: np.ndarray | None = None
        if name == "train" and class_weights == "balanced":
            weights = balanced_weights(split.labels)
        made[name] = Examples(split, reader, objective.targets(split.labels), weights)
    return made

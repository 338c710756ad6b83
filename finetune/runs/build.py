"""Builds everything that a run needs from its config; the jobs of a sweep share what they can."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from finetune.backbones import loading as backbone_loading
from finetune.backbones import saving
from finetune.backbones.coverage import Coverage
from finetune.backbones.families import family_of
from finetune.backbones.loading import LoadedBackbone
from finetune.backbones.stages import Stage
from finetune.backbones.stages import stages as find_stages
from finetune.config.schema import Config, DatasetConfig
from finetune.datasets.dataset import Dataset
from finetune.datasets.images.augmentation import Augmentation, Mix
from finetune.datasets.load import load_dataset
from finetune.datasets.notices import notices
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader, Reader, TextReader
from finetune.errors import ConfigError
from finetune.evaluation.named import metric as require_metric
from finetune.freezing.inventory import Inventory, take_inventory
from finetune.freezing.plan import FreezePlan, make_plan
from finetune.record.schema import loaded_weights
from finetune.runs.settings import RunSettings, run_settings
from finetune.schedule.expand import expand
from finetune.schedule.phase import Phase
from finetune.tasks import heads
from finetune.tasks.objective import MIXED, MULTI_LABEL, ONE, Objective, balanced_weights
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.device import Device, prepare

log = logging.getLogger(__name__)
LOADING = "loading data and backbone"  # what a console says while a run is built


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


class Workbench:
    """Builds runs, and keeps the last model for a next run that needs the same one.

    Args:
        keep: Whether several runs will be built, as in a sweep.
    """

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self._built: Built | None = None
        self._key = ""
        self._said: set[str] = set()

    def run(self, config: Config, started: float | None = None) -> PlannedRun:
        """Returns a run whose model is as if it had been built for this run alone.

        Args:
            config: The checked config.
            started: Clock time (`time.time`) at which the command started; None: now.

        Raises:
            ConfigError: If the model or the dataset cannot do what the config asks for.
        """
        began = time.time()
        key = _model_key(config)
        if self._built is not None and key == self._key:
            keras.utils.set_random_seed(config.seed)
            self._built.steps.restore()
        else:
            self._built = None  # frees its memory first
            self._built = _build(config, self._keep)
            self._key = key
        spent = {} if started is None else {"imports": began - started}
        return plan_run(self._built, config, {**spent, "building": time.time() - began})

    def news(self) -> list[str]:
        """Returns the notices about the last run that were not returned before, one line each."""
        lines = () if self._built is None else self._built.notices
        new = [line for line in lines if line not in self._said]
        self._said.update(new)
        return new

    def forget(self) -> None:
        """Drops the model, whose state is unknown after a failed job."""
        self._built = None


def _model_key(config: Config) -> str:
    """Returns what two configs must have in common to share a model, which excludes the schedule."""
    head = {k: v for k, v in asdict(config.head).items() if k != "standardise"}
    parts = (config.seed, asdict(config.backbone), head, asdict(config.dataset))
    return json.dumps([*parts, asdict(config.runtime)], sort_keys=True)


def _build(config: Config, reused: bool) -> Built:
    runtime, backbone = config.runtime, config.backbone
    device = prepare(runtime.device, runtime.precision, runtime.deterministic, config.seed)
    loaded = backbone_loading.load(
        preset=backbone.preset,
        path=None if backbone.path is None else Path(backbone.path),
        name=backbone.name,
        revision=backbone.revision,
        load_weights=backbone.load_weights,
        image_size=config.dataset.image_size,
        resize=config.dataset.resize,
        sequence_length=config.dataset.sequence_length,
    )
    dataset = load_dataset(config.dataset, config.seed)
    require_fitting(loaded, dataset)
    num_classes = len(dataset.classes)
    objective = make_objective(dataset, config.dataset, num_classes)
    task = heads.build_task(
        loaded,
        num_classes,
        pooling=config.head.pooling,
        dropout=config.head.dropout,
        seed=config.seed,
    )
    family = family_of(loaded.backbone)
    untrainable = () if family is None else family.untrainable
    inventory = take_inventory(task, _stages_in(task, loaded.backbone), untrainable)
    reader = _reader(loaded, dataset, config)
    labels = {"classes": list(dataset.classes), "multi_label": dataset.multi_label}
    log.info("weights of %s: %s", loaded.name, loaded_weights(_weights(loaded.coverage)))
    log.info("preprocessing of %s: %s", loaded.name, json.dumps(loaded.preprocessing))
    origin = Origin(
        name=loaded.name,
        source=loaded.source,
        weights_sha256=loaded.weights_sha256,
        weights=_weights(loaded.coverage),
        preprocessing=loaded.preprocessing,
        preprocessing_sha256=loaded.preprocessing_sha256,
    )

    def save(directory: Path, card: str) -> None:
        saving.save_task(task, directory, labels, loaded.preprocessor, loaded.backbone, card)

    return make_built(
        TaskModel(inventory, objective, origin, reader, save),
        dataset,
        device,
        config.dataset.class_weights,
        reused=reused,
        notices=tuple(notices(dataset, loaded.name, loaded.image_size)),
    )


def _weights(coverage: Coverage) -> dict[str, Any]:
    absent = list(coverage.absent) if coverage.loaded > 0 else []  # of random weights all are
    return {"loaded": coverage.loaded, "total": coverage.total, "absent": absent}


def _stages_in(task: keras.Model, backbone: keras.Model) -> list[Stage]:
    """Returns the stages that the task model has; a head on tokens leaves BERT's pooler out."""
    used = {id(weight) for weight in task.weights}
    found = find_stages(backbone)
    return [stage for stage in found if any(id(weight) in used for weight in stage.weights)]


def require_fitting(loaded: LoadedBackbone, dataset: Dataset) -> None:
    """Refuses texts for an image backbone and the reverse.

    Raises:
        ConfigError: naming both.
    """
    if loaded.kind != dataset.kind:
        raise ConfigError(
            f"dataset must hold {loaded.kind}s: backbone {loaded.name} takes {loaded.kind}s. "
            f"Received: {dataset.name}, which holds {dataset.kind}s. Choose a dataset of "
            f"{loaded.kind}s, or another backbone."
        )


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


def _reader(loaded: LoadedBackbone, dataset: Dataset, config: Config) -> Reader:
    given = config.dataset
    if loaded.image_size is None:
        _refuse_for_text(given)
        return TextReader(loaded.preprocessor, dataset.splits)
    augmentation = None
    if given.augment != "none":
        augmentation = Augmentation(given.augment, given.flip, config.seed)
    mix = None if given.mix == "none" else Mix(given.mix, config.seed)
    return ImageReader(loaded.image_size, loaded.image_converter, augmentation, mix)


def _refuse_for_text(given: DatasetConfig) -> None:
    problems = [
        f"dataset.{key} must be none: texts are not augmented. Received: {value}. "
        f"Set dataset.{key}=none."
        for key, value in (("augment", given.augment), ("mix", given.mix))
        if value != "none"
    ]
    if problems:
        raise ConfigError(problems)

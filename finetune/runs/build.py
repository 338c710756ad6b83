"""From a checked config to everything a run trains with; jobs of a sweep share what they can."""

import json
import logging
from collections.abc import Callable, Mapping
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
from finetune.schedule.expand import expand
from finetune.schedule.phase import Phase
from finetune.tasks import heads
from finetune.tasks.objective import MIXED, MULTI_LABEL, ONE, Objective, balanced_weights
from finetune.training.device import Device, prepare
from finetune.training.programs import Programs

log = logging.getLogger(__name__)
LOADING = "loading data and backbone"  # what a console says while a run is built


@dataclass(frozen=True)
class Origin:
    """Where the pretrained weights come from, and what they ask of the data.

    Args:
        name: of the backbone.
        source: as in `LoadedBackbone`.
        weights_sha256: of the backbone as loaded.
        weights: how many of the backbone's weights came from the checkpoint, ``loaded`` of ``total``,
            and the paths of those that are ``absent`` from it; empty for a model of the user's own.
        preprocessing: JSON values: size, scale, mean, tokenizer and the like.
        preprocessing_sha256: digest of all that decides what becomes of an example.
    """

    name: str
    source: str
    weights_sha256: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    preprocessing_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Built:
    """Data and model, before any schedule.

    Args:
        device: what the run computes on.
        dataset: all splits.
        examples: the same, with what makes batches of them.
        origin: of the backbone.
        inventory: of the task model.
        programs: what is compiled for the model, and what it is for.
        save: writes the trained model, with the text of its card, to a directory.
        notices: what a user should know before anything is trained, one line each.
    """

    device: Device
    dataset: Dataset
    examples: Mapping[str, Examples]
    origin: Origin
    inventory: Inventory
    programs: Programs
    save: Callable[[Path, str], None]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """Everything built, nothing trained."""

    built: Built
    phases: tuple[Phase, ...]
    plans: tuple[FreezePlan, ...]
    metrics: tuple[str, ...] = ()


def plan_run(built: Built, config: Config) -> Run:
    """Resolves every phase of the schedule on the model.

    Raises:
        ConfigError: for a phase that this model cannot have.
    """
    inventory = built.inventory
    phases = expand(config.schedule, inventory.stage_names)
    plans = tuple(
        make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases
    )
    metrics = tuple(dict.fromkeys([*config.metrics, *(phase.monitor for phase in phases)]))
    for name in metrics:
        require_metric(name, "metrics", built.programs.objective)
    return Run(built, phases, plans, metrics)


class Workbench:
    """Builds runs; keeps the last model, so that a job that needs the same one does not build it.

    Args:
        keep: whether several runs will be asked for, as in a sweep.
    """

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self._built: Built | None = None
        self._key = ""
        self._said: set[str] = set()

    def run(self, config: Config) -> Run:
        """Returns a run whose model is as if it had been built for it alone.

        Raises:
            ConfigError: for whatever the config asks that this model or dataset cannot give.
        """
        key = _model_key(config)
        if self._built is not None and key == self._key:
            keras.utils.set_random_seed(config.seed)
            self._built.programs.restore()
        else:
            self._built = None  # its memory goes first
            self._built = _build(config, self._keep)
            self._key = key
        return plan_run(self._built, config)

    def news(self) -> list[str]:
        """Returns what a user should know of the run just built and has not been told: one line each."""
        lines = () if self._built is None else self._built.notices
        new = [line for line in lines if line not in self._said]
        self._said.update(new)
        return new

    def forget(self) -> None:
        """Drops the model: after a failed job nothing is assumed of it."""
        self._built = None


def _model_key(config: Config) -> str:
    """Returns what two configs share that can share a model; schedules and rates are not in it."""
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
    return Built(
        device=device,
        dataset=dataset,
        examples=make_examples(dataset, reader, objective, config.dataset.class_weights),
        origin=Origin(
            loaded.name,
            loaded.source,
            loaded.weights_sha256,
            _weights(loaded.coverage),
            loaded.preprocessing,
            loaded.preprocessing_sha256,
        ),
        inventory=inventory,
        programs=Programs(inventory, objective, reused),
        save=lambda directory, card: saving.save_task(
            task, directory, labels, loaded.preprocessor, loaded.backbone, card
        ),
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
    """Returns what a model is trained for on this dataset.

    Raises:
        ConfigError: for settings that make no sense with several labels.
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

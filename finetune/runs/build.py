"""Builds everything that a run needs from its config; the jobs of a sweep share what they can."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

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
from finetune.datasets.readers import ImageReader, Reader, TextReader
from finetune.errors import ConfigError
from finetune.freezing.inventory import take_inventory
from finetune.record.schema import loaded_weights
from finetune.runs.planned_run import (
    Built,
    Origin,
    PlannedRun,
    TaskModel,
    make_built,
    make_objective,
    plan_run,
)
from finetune.tasks import heads
from finetune.training.device import prepare

log = logging.getLogger(__name__)
LOADING = "loading data and backbone"  # what a console says while a run is built


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

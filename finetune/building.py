"""From a checked config to everything a run trains with; jobs of a sweep share what they can."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from finetune.backbones import heads
from finetune.backbones import loading as backbone_loading
from finetune.backbones.stages import stages as find_stages
from finetune.config import Config
from finetune.datasets.augmentation import Augmentation
from finetune.datasets.dataset import Dataset
from finetune.datasets.folder import load_folder
from finetune.datasets.loading import load as load_tfds
from finetune.freezing.inventory import Inventory, take_inventory
from finetune.freezing.plan import FreezePlan, make_plan
from finetune.freezing.schedule import Phase, expand
from finetune.training.device import Device, prepare
from finetune.training.programs import Programs


@dataclass(frozen=True, eq=False)
class Built:
    """Data and model, before any schedule.

    Args:
        device: what the run computes on.
        dataset: all splits.
        augmentation: of the training images; None: none.
        loaded: the backbone as it was loaded.
        preprocessor: of the task; its image converter prepares the data.
        inventory: of the task model.
        programs: what is compiled for the model.
    """

    device: Device
    dataset: Dataset
    augmentation: Augmentation | None
    loaded: backbone_loading.LoadedBackbone
    preprocessor: Any
    inventory: Inventory
    programs: Programs


@dataclass(frozen=True, eq=False)
class Run:
    """Everything built, nothing trained."""

    built: Built
    phases: tuple[Phase, ...]
    plans: tuple[FreezePlan, ...]


class Workbench:
    """Builds runs; keeps the last model, so that a job that needs the same one does not build it.

    Args:
        keep: whether several runs will be asked for, as in a sweep.
    """

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self._built: Built | None = None
        self._key = ""

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
        inventory = self._built.inventory
        phases = expand(config.schedule, inventory.stage_names)
        plans = tuple(make_plan(p, inventory.infos, inventory.stage_names) for p in phases)
        return Run(self._built, phases, plans)

    def forget(self) -> None:
        """Drops the model: after a failed job nothing is assumed of it."""
        self._built = None


def _model_key(config: Config) -> str:
    """Returns what two configs share that can share a model; schedules and rates are not in it."""
    head = {k: v for k, v in asdict(config.head).items() if k != "standardise"}
    parts = (config.seed, asdict(config.backbone), head, asdict(config.dataset))
    return json.dumps([*parts, asdict(config.runtime)], sort_keys=True)


def _dataset(config: Config) -> Dataset:
    given = config.dataset
    chosen: dict[str, Any] = {
        "max_samples": given.max_samples,
        "train_per_class": given.train_per_class,
        "seed": config.seed,
    }
    if given.name == "image_folder" and given.path is not None:
        return load_folder(given.path, **chosen)
    return load_tfds(
        given.name,
        version=given.version,
        config=given.config,
        data_dir=given.data_dir,
        splits=asdict(given.splits),
        **chosen,
    )


def _build(config: Config, reused: bool) -> Built:
    runtime = config.runtime
    device = prepare(runtime.device, runtime.precision, runtime.deterministic, config.seed)
    backbone = config.backbone
    loaded = backbone_loading.load(
        preset=backbone.preset,
        path=None if backbone.path is None else Path(backbone.path),
        name=backbone.name,
        load_weights=backbone.load_weights,
        image_size=config.dataset.image_size,
    )
    dataset = _dataset(config)
    task = heads.build_task(
        loaded,
        len(dataset.classes),
        pooling=config.head.pooling,
        dropout=config.head.dropout,
        seed=config.seed,
    )
    # With a preprocessor, a KerasHub task prepares what `fit` is given; our data come prepared.
    preprocessor, task.preprocessor = task.preprocessor, None
    inventory = take_inventory(task, find_stages(loaded.backbone))
    programs = Programs(inventory, reused)
    augmentation = None
    if config.dataset.augment != "none":
        augmentation = Augmentation(config.dataset.augment, config.dataset.flip, config.seed)
    return Built(device, dataset, augmentation, loaded, preprocessor, inventory, programs)

"""The typed config: every key a user can set, its default, and the names it may take.

Importing it loads neither Keras nor TensorFlow.
"""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

from omegaconf import MISSING

from finetune.config import plugins
from finetune.config.freeze import unset

BATCH_NORM_MODES = ("inference", "train")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion")
DEVICES = ("auto", "cpu", "gpu")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
POOLINGS = ("auto", "avg", "max", "cls")
STANDARDISE = ("auto", "never")
SOLVERS = ("gradient", "lbfgs")
RESIZES = ("crop", "pad", "stretch")
AUGMENTATIONS = ("none", "light", "strong")
MIXES = ("none", "mixup", "cutmix")
CLASS_WEIGHTS = ("none", "balanced")
ON_BAD_SAMPLE = ("error", "skip")
FILE_DATASETS = {  # what dataset.path is for each
    "image_folder": "a folder of images",
    "table": "a CSV, TSV, JSON Lines or Parquet file, or a folder of one for each split",
    "arrays": "a .npz file",
}
CACHE_MODES = ("auto", "always", "never")
TRACKERS = {"mlflow": "MLflow", "wandb": "Weights & Biases", "trackio": "Trackio"}  # by package
WANDB_MODES = ("offline", "online")
FEATURE_DTYPES = ("float32", "float16", "bfloat16")


@dataclass
class BackboneConfig:
    """The pretrained network: one of `preset` or `path`."""

    name: str | None = None
    preset: str | None = None
    path: str | None = None
    revision: str | None = None
    load_weights: bool = True


@dataclass
class HeadConfig:
    """The new layers after the backbone."""

    pooling: str = "auto"
    dropout: float = 0.0
    standardise: str = "auto"


@dataclass
class SplitsConfig:
    """TFDS split expressions, e.g. ``train[:90%]``."""

    train: str = "train"
    validation: str = "validation"
    test: str = "test"


@dataclass
class ColumnsConfig:
    """Names of the columns or features that hold examples and labels."""

    input: str | None = None
    label: str | None = None


@dataclass
class DatasetConfig:
    """What to train on, and how it is fed."""

    name: str = MISSING
    path: str | None = None
    version: str | None = None
    config: str | None = None
    data_dir: str | None = None
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    label_separator: str | None = None
    batch_size: int = 32
    image_size: int | None = None
    resize: str | None = None
    sequence_length: int | None = None
    class_weights: str = "none"
    max_samples: int | None = None
    train_per_class: int | None = None
    on_bad_sample: str = "error"
    augment: str = "none"
    flip: bool = True
    mix: str = "none"


@dataclass(frozen=True, kw_only=True)
class PhaseKeys:
    """The keys that every phase has, whether a config lists it or a range of depths generates it.

    A key is stated here and checked in `finetune.config.schedule_checks`; nothing else lists it.

    Args:
        batch_norm: ``inference`` holds the statistics of every backbone BatchNorm; ``train`` wakes
            those whose own weights train.
        stage_lr_decay: Factor from the rate of one stage to the one below it, in (0, 1].
        patience: Epochs without improvement of `monitor` after which the phase stops; None never
            stops it.
        restore_best: Whether the phase ends with the weights of its best validation epoch.
        monitor: Metric of the validation split that `patience` and `restore_best` go by.
    """

    batch_norm: str = "inference"
    stage_lr_decay: float = 1.0
    patience: int | None = None
    restore_best: bool = False
    monitor: str = "loss"


@dataclass(frozen=True, kw_only=True)
class PhaseConfig(PhaseKeys):
    """One entry of the schedule, as a config lists it."""

    epochs: int = MISSING
    learning_rate: float = MISSING
    freeze: dict[str, Any] = field(default_factory=unset)  # a policy and its keys
    solver: str = "gradient"


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(PhaseKeys):
    """Explicit phases, then those that a progressive range of unfreeze depths expands to."""

    phases: dict[str, Any] = field(default_factory=dict)  # of PhaseConfig, made by read()
    from_depth: int | None = None
    to_depth: int | None = None
    epochs_per_phase: int = 2
    learning_rate: float = 1e-3


@dataclass
class OptimizerConfig:
    """A Keras optimizer; keys it does not know are left at null."""

    name: str = "adamw"
    weight_decay: float | None = None
    momentum: float | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    epsilon: float | None = None
    clipnorm: float | None = None


@dataclass
class FeaturesConfig:
    """Whether and where the outputs of a frozen prefix are stored."""

    cache: str = "auto"
    dir: str | None = None
    max_gib: float = 20.0
    dtype: str = "float32"
    views: int = 0


@dataclass
class RuntimeConfig:
    """Where and how exactly the computation runs."""

    device: str = "auto"
    precision: str = "auto"
    deterministic: bool = True
    steps_per_execution: int = 1
    checkpoint_minutes: float | None = 10.0


@dataclass
class TrackersConfig:
    """Who else keeps the run, beside TensorBoard; nothing here bears on its result."""

    mlflow: bool = False
    wandb: bool = False
    trackio: bool = False
    project: str = "finetune"
    name: str | None = None
    group: str | None = None
    mlflow_uri: str | None = None
    wandb_mode: str | None = None


def trackers_config() -> TrackersConfig:
    """Returns the defaults, with one more key for each tracker of a plug-in."""
    known = [item.name for item in fields(TrackersConfig)]
    more = [name for name in plugins.names("trackers") if name.isidentifier() and name not in known]
    if not more:
        return TrackersConfig()
    keys = [(name, bool, field(default=False)) for name in more]
    return make_dataclass("TrackersConfig", keys, bases=(TrackersConfig,))()


@dataclass
class Config:
    """The whole config of one run."""

    seed: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    trackers: TrackersConfig = field(default_factory=trackers_config)
    metrics: list[str] = field(default_factory=list)


# Places on disk: relative ones are relative to where the command was started.
PATHS = ("backbone.path", "dataset.path", "dataset.data_dir", "features.dir")
GROUPS = (
    *("backbone", "dataset", "schedule", "optimizer", "features", "runtime", "trackers"),
    "experiment",
)
# The keys of the optimizer config that each Keras optimizer takes, beyond clipnorm.
OPTIMIZER_KEYS = {
    "adamw": ("weight_decay", "beta_1", "beta_2", "epsilon"),
    "adam": ("weight_decay", "beta_1", "beta_2", "epsilon"),
    "sgd": ("weight_decay", "momentum"),
    "rmsprop": ("weight_decay", "momentum", "epsilon"),
    "lion": ("weight_decay", "beta_1", "beta_2"),
}

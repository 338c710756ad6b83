"""Checks of a config that need only its values: no file, no model, and no TensorFlow."""

from collections.abc import Iterator

from omegaconf import MISSING

from finetune.config import plugins
from finetune.config.schedule_checks import check_schedule
from finetune.config.schema import (
    AUGMENTATIONS,
    CACHE_MODES,
    CLASS_WEIGHTS,
    DEVICES,
    FEATURE_DTYPES,
    FILE_DATASETS,
    MIXES,
    ON_BAD_SAMPLE,
    OPTIMIZER_KEYS,
    OPTIMIZERS,
    POOLINGS,
    PRECISIONS,
    RESIZES,
    STANDARDISE,
    WANDB_MODES,
    BackboneConfig,
    Config,
    DatasetConfig,
    FeaturesConfig,
    HeadConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrackersConfig,
)
from finetune.config.values import choice, number, positive


def check(config: Config) -> list[str]:
    """Returns every problem that the config alone shows; an empty list if there is none."""
    return [
        *_check_seed(config.seed),
        *_check_backbone(config.backbone),
        *_check_head(config.head),
        *_check_dataset(config.dataset),
        *check_schedule(config.schedule),
        *_check_optimizer(config.optimizer),
        *_check_features(config.features, config.dataset),
        *_check_runtime(config.runtime),
        *_check_trackers(config.trackers),
        *_check_metrics(config.metrics),
    ]


def _check_seed(seed: int) -> Iterator[str]:
    ok = 0 <= seed < 2**32
    yield from number("seed", seed, "0..4294967295", ok, "Choose a seed in this range.")


def _check_backbone(backbone: BackboneConfig) -> Iterator[str]:
    if (backbone.preset is None) == (backbone.path is None):
        received = (
            "neither"
            if backbone.preset is None
            else f"preset={backbone.preset} and path={backbone.path}"
        )
        yield (
            f"backbone must have exactly one of preset and path. Received: {received}. "
            "Set backbone.preset=NAME for a KerasHub preset, or "
            "backbone=local backbone.path=DIR for a directory."
        )


def _check_head(head: HeadConfig) -> Iterator[str]:
    yield from choice("head.pooling", "a pooling", head.pooling, POOLINGS)
    yield from choice("head.standardise", "a mode", head.standardise, STANDARDISE)
    ok = 0 <= head.dropout < 1
    yield from number("head.dropout", head.dropout, "in [0, 1)", ok, "0 turns dropout off.")


def _check_dataset(dataset: DatasetConfig) -> Iterator[str]:
    if dataset.name == MISSING:
        yield (
            "dataset.name must be the name of a TFDS dataset. Received: nothing. "
            "Add dataset.name=NAME."
        )
    yield from _check_source(dataset)
    yield from positive("dataset.batch_size", dataset.batch_size, "32 is a usual start.")
    fix = "Leave it out (null) for no limit."
    yield from positive("dataset.image_size", dataset.image_size, "null is the backbone's own.")
    if dataset.resize is not None:
        kind = "a way to resize, or null for the checkpoint's own"
        yield from choice("dataset.resize", kind, dataset.resize, RESIZES)
    yield from positive("dataset.max_samples", dataset.max_samples, fix)
    yield from positive("dataset.train_per_class", dataset.train_per_class, fix)
    yield from positive("dataset.sequence_length", dataset.sequence_length, "null: the backbone's.")
    yield from choice("dataset.augment", "a strength", dataset.augment, AUGMENTATIONS)
    yield from choice("dataset.mix", "a way to mix", dataset.mix, MIXES)
    bad = dataset.on_bad_sample
    yield from choice("dataset.on_bad_sample", "error or skip", bad, ON_BAD_SAMPLE)
    weights = dataset.class_weights
    yield from choice("dataset.class_weights", "a weighting", weights, CLASS_WEIGHTS)
    if weights == "balanced" and dataset.mix in ("mixup", "cutmix"):
        yield (
            "dataset.class_weights must be none where images of several classes are mixed. "
            f"Received: balanced with dataset.mix={dataset.mix}. Choose one of the two."
        )


def _check_source(dataset: DatasetConfig) -> Iterator[str]:
    """Checks the keys that only some sources have."""
    if dataset.name != MISSING and not plugins.is_own("datasets", dataset.name):
        return  # which keys a plug-in takes is its own affair
    what = FILE_DATASETS.get(dataset.name)
    if what is not None and dataset.path in (None, MISSING):
        yield f"dataset.path must be {what}. Received: nothing. Add dataset.path=PATH."
    if what is None and dataset.path is not None:
        yield (
            f"dataset.path must be null for dataset {dataset.name}. Received: {dataset.path}. "
            f"Use dataset={' or '.join(FILE_DATASETS)} for files of your own."
        )
    for key in ("version", "config", "data_dir"):
        value = getattr(dataset, key)
        if what is not None and value is not None:
            yield (
                f"dataset.{key} must be null for dataset {dataset.name}. Received: {value}. "
                "Only TFDS datasets have one."
            )
    if dataset.name in ("image_folder", "arrays"):
        for key in ("input", "label"):
            value = getattr(dataset.columns, key)
            if value is not None:
                yield (
                    f"dataset.columns.{key} must be null for dataset {dataset.name}. Received: "
                    f"{value}. Tables and TFDS datasets have columns."
                )
    separator = dataset.label_separator
    if separator == "" or (separator is not None and dataset.name != "table"):
        yield (
            "dataset.label_separator must be text between the labels of a table's row, or null. "
            f"Received: {separator!r} for dataset {dataset.name}. Set "
            "dataset.label_separator=null."
        )


def _check_optimizer(optimizer: OptimizerConfig) -> Iterator[str]:
    yield from choice("optimizer.name", "an optimizer", optimizer.name, OPTIMIZERS)
    for key in ("beta_1", "beta_2", "momentum"):
        value = getattr(optimizer, key)
        ok = value is not None and 0 <= value < 1
        yield from number(f"optimizer.{key}", value, "in [0, 1)", ok, "0.9 is usual.")
    decay = optimizer.weight_decay
    ok = decay is not None and decay >= 0
    yield from number("optimizer.weight_decay", decay, "at least 0", ok, "0 turns it off.")
    yield from positive("optimizer.epsilon", optimizer.epsilon, "1e-7 is usual.")
    yield from positive("optimizer.clipnorm", optimizer.clipnorm, "null turns clipping off.")
    taken = OPTIMIZER_KEYS.get(optimizer.name)
    if taken is None:
        return
    for key in ("weight_decay", "momentum", "beta_1", "beta_2", "epsilon"):
        value = getattr(optimizer, key)
        if value is not None and key not in taken:
            yield (
                f"optimizer.{key} must be null: {optimizer.name} has no such setting. "
                f"Received: {value}. {optimizer.name} takes {', '.join(taken)}, clipnorm."
            )


def _check_features(features: FeaturesConfig, dataset: DatasetConfig) -> Iterator[str]:
    yield from choice("features.cache", "a mode", features.cache, CACHE_MODES)
    yield from choice("features.dtype", "a dtype", features.dtype, FEATURE_DTYPES)
    yield from positive("features.max_gib", features.max_gib, "features.cache=never stores none.")
    views = features.views
    fix = "0 stores no augmented view."
    yield from number("features.views", views, "at least 0", views >= 0, fix)
    if views > 0 and dataset.augment == "none":
        yield (
            f"features.views must be 0 where nothing is augmented. Received: {views} with "
            "dataset.augment=none. Set dataset.augment=light or strong, or features.views=0."
        )
    if dataset.mix != "none" and (views > 0 or features.cache == "always"):
        yield (
            "dataset.mix must be none to store features of training images: a mixed image is seen "
            f"once. Received: {dataset.mix} with features.cache={features.cache}, features.views="
            f"{views}. Set dataset.mix=none, or features.views=0 and features.cache=auto."
        )


def _check_runtime(runtime: RuntimeConfig) -> Iterator[str]:
    yield from choice("runtime.device", "a device", runtime.device, DEVICES)
    yield from choice("runtime.precision", "a precision", runtime.precision, PRECISIONS)
    yield from positive("runtime.steps_per_execution", runtime.steps_per_execution, "1 is usual.")
    minutes = runtime.checkpoint_minutes
    fix = "10 is usual, null keeps nothing within an epoch."
    ok = minutes is None or minutes >= 0
    yield from number("runtime.checkpoint_minutes", minutes, "at least 0", ok, fix)


def _check_trackers(trackers: TrackersConfig) -> Iterator[str]:
    for key in ("project", "name", "group"):
        value = getattr(trackers, key)
        if value is not None and not (value.strip() and value.isprintable() and len(value) <= 128):
            yield (
                f"trackers.{key} must be one line of 1 to 128 characters. Received: {value!r}. "
                f"Write trackers.{key}=NAME."
            )
    mode = trackers.wandb_mode
    if mode is not None:
        yield from choice("trackers.wandb_mode", "a mode", mode, WANDB_MODES)
    uri = trackers.mlflow_uri
    if uri is not None and "@" in uri.partition("://")[2].partition("/")[0]:
        yield (
            "trackers.mlflow_uri must hold no user and password: the config is kept with the run. "
            "Received: one with @. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    elif uri is not None and not ("://" in uri or uri.startswith("/") or uri == "databricks"):
        yield (
            "trackers.mlflow_uri must be a URI or an absolute path: a resume may be started "
            f"elsewhere. Received: {uri}. Write trackers.mlflow_uri=$PWD/mlruns, or http://HOST:PORT."
        )


def _check_metrics(metrics: list[str]) -> Iterator[str]:
    for name in metrics:
        yield from choice("metrics", "a metric", str(name), plugins.names("metrics"))

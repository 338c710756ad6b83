"""All checks of a config that need nothing but its values: no file, no model, no TensorFlow."""

import math
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import MISSING

from finetune.config import (
    AUGMENTATIONS,
    BATCH_NORM_MODES,
    CACHE_MODES,
    CLASS_WEIGHTS,
    DEVICES,
    FEATURE_DTYPES,
    FILE_DATASETS,
    MIXES,
    MONITORS,
    ON_BAD_SAMPLE,
    OPTIMIZER_KEYS,
    OPTIMIZERS,
    POLICIES,
    POLICY_KEYS,
    POOLINGS,
    PRECISIONS,
    SOLVERS,
    STANDARDISE,
    WANDB_MODES,
    BackboneConfig,
    Config,
    DatasetConfig,
    FeaturesConfig,
    FreezeConfig,
    HeadConfig,
    OptimizerConfig,
    PhaseConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrackersConfig,
)
from finetune.errors import unknown_name

MAX_INT = 2**32 - 1  # no count of anything here is larger, and TensorFlow's own are 64 bits wide


def check(config: Config) -> list[str]:
    """Returns every problem that can be seen in the config alone; an empty list where none is."""
    return [
        *_check_seed(config.seed),
        *_check_backbone(config.backbone),
        *_check_head(config.head),
        *_check_dataset(config.dataset),
        *_check_schedule(config.schedule),
        *_check_optimizer(config.optimizer),
        *_check_features(config.features, config.dataset),
        *_check_runtime(config.runtime),
        *_check_trackers(config.trackers),
    ]


def _number(
    where: str,
    value: float | None,
    expected: str,
    ok: bool,
    fix: str,
) -> Iterator[str]:
    if isinstance(value, int) and abs(value) > MAX_INT and ok:
        yield f"{where} must be at most {MAX_INT}. Received: {value}. {fix}"
    elif value is not None and not (ok and math.isfinite(value)):
        yield f"{where} must be {expected}. Received: {value}. {fix}"


def _positive(where: str, value: float | None, fix: str) -> Iterator[str]:
    kind = "a whole number of at least 1" if isinstance(value, int) else "a finite number above 0"
    yield from _number(where, value, kind, value is not None and value > 0, fix)


def _choice(where: str, kind: str, value: str, valid: Any) -> Iterator[str]:
    if value not in valid:
        yield unknown_name(where, kind, value, valid)


def _check_seed(seed: int) -> Iterator[str]:
    ok = 0 <= seed < 2**32
    yield from _number("seed", seed, "0..4294967295", ok, "Choose a seed in this range.")


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
    yield from _choice("head.pooling", "a pooling", head.pooling, POOLINGS)
    yield from _choice("head.standardise", "a mode", head.standardise, STANDARDISE)
    ok = 0 <= head.dropout < 1
    yield from _number("head.dropout", head.dropout, "in [0, 1)", ok, "0 turns dropout off.")


def _check_dataset(dataset: DatasetConfig) -> Iterator[str]:
    if dataset.name == MISSING:
        yield (
            "dataset.name must be the name of a TFDS dataset. Received: nothing. "
            "Add dataset.name=NAME."
        )
    yield from _check_source(dataset)
    yield from _positive("dataset.batch_size", dataset.batch_size, "32 is a usual start.")
    fix = "Leave it out (null) for no limit."
    yield from _positive("dataset.image_size", dataset.image_size, "null is the backbone's own.")
    yield from _positive("dataset.max_samples", dataset.max_samples, fix)
    yield from _positive("dataset.train_per_class", dataset.train_per_class, fix)
    yield from _positive(
        "dataset.sequence_length", dataset.sequence_length, "null: the backbone's."
    )
    yield from _choice("dataset.augment", "a strength", dataset.augment, AUGMENTATIONS)
    yield from _choice("dataset.mix", "a way to mix", dataset.mix, MIXES)
    bad = dataset.on_bad_sample
    yield from _choice("dataset.on_bad_sample", "error or skip", bad, ON_BAD_SAMPLE)
    weights = dataset.class_weights
    yield from _choice("dataset.class_weights", "a weighting", weights, CLASS_WEIGHTS)
    if weights == "balanced" and dataset.mix in ("mixup", "cutmix"):
        yield (
            "dataset.class_weights must be none where images of several classes are mixed. "
            f"Received: balanced with dataset.mix={dataset.mix}. Choose one of the two."
        )


def _check_source(dataset: DatasetConfig) -> Iterator[str]:
    """Checks the keys that only some sources have."""
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


def _check_schedule(schedule: ScheduleConfig) -> Iterator[str]:
    if not schedule.phases and schedule.from_depth is None:
        yield (
            "schedule must have at least one phase. Received: none. Choose schedule=linear_probe, "
            "progressive or full, or add one: "
            "+schedule.phases.head={epochs: 10, learning_rate: 1e-3, "
            "freeze: {policy: depth, unfreeze_depth: 0}}"
        )
    for name, phase in schedule.phases.items():
        yield from _check_phase(f"schedule.phases.{name}", phase)
    if schedule.from_depth is not None:
        yield from _check_range(schedule)


def _check_range(schedule: ScheduleConfig) -> Iterator[str]:
    first, last = schedule.from_depth, schedule.to_depth
    fix = "Depths count backbone stages from the head; 0 is a linear probe."
    yield from _number("schedule.from_depth", first, "at least 0", (first or 0) >= 0, fix)
    yield from _number("schedule.to_depth", last, "at least 0", (last or 0) >= 0, fix)
    if first is not None and last is not None and 0 <= last < first:
        yield (
            f"schedule.to_depth must be at least schedule.from_depth ({first}). Received: {last}. "
            "Progressive unfreezing grows; swap the two."
        )
    yield from _positive("schedule.epochs_per_phase", schedule.epochs_per_phase, "2 is usual.")
    yield from _check_shared("schedule", schedule)


def _check_shared(where: str, phase: PhaseConfig | ScheduleConfig) -> Iterator[str]:
    if phase.learning_rate == MISSING:
        yield (
            f"{where}.learning_rate must be a finite number above 0. Received: nothing. "
            f"Add {where}.learning_rate=1e-3."
        )
    else:
        fix = "1e-3 suits a new head, 1e-4 pretrained weights."
        yield from _positive(f"{where}.learning_rate", float(phase.learning_rate), fix)
    decay = phase.stage_lr_decay
    ok = 0 < decay <= 1
    fix = "1 gives every stage the same rate, 0.5 halves it stage by stage below the head."
    yield from _number(f"{where}.stage_lr_decay", decay, "in (0, 1]", ok, fix)
    yield from _choice(
        f"{where}.batch_norm", "a BatchNorm mode", phase.batch_norm, BATCH_NORM_MODES
    )
    yield from _choice(f"{where}.monitor", "a monitored metric", phase.monitor, MONITORS)
    yield from _positive(f"{where}.patience", phase.patience, "null trains all epochs.")


def _check_phase(where: str, phase: PhaseConfig) -> Iterator[str]:
    if phase.epochs == MISSING:
        yield (
            f"{where}.epochs must be a whole number of at least 1. Received: nothing. "
            f"Add {where}.epochs=5."
        )
    else:
        yield from _positive(
            f"{where}.epochs", phase.epochs, f"To leave the phase out, say ~{where}."
        )
    yield from _check_shared(where, phase)
    yield from _choice(f"{where}.solver", "a solver", phase.solver, SOLVERS)
    if phase.solver == "lbfgs" and phase.patience is not None:
        yield (
            f"{where}.patience must be null for solver lbfgs, which runs to its optimum. "
            f"Received: {phase.patience}. Set {where}.patience=null, or {where}.solver=gradient."
        )
    yield from _check_freeze(f"{where}.freeze", phase.freeze)


def _check_freeze(where: str, freeze: FreezeConfig) -> Iterator[str]:
    if freeze.policy not in POLICIES:
        yield unknown_name(f"{where}.policy", "a freeze policy", freeze.policy, POLICIES)
        return
    own = POLICY_KEYS.get(freeze.policy, ())
    for key in ("unfreeze_depth", "stages", "train", "freeze"):
        value = getattr(freeze, key)
        if value is not None and key not in own:
            owner = next(policy for policy, keys in POLICY_KEYS.items() if key in keys)
            yield (
                f"{where}.{key} must be left out: two rules would disagree, policy "
                f"{freeze.policy} does not use it. Received: {value}. "
                f"Set {where}.{key}=null, or {where}.policy={owner}."
            )
    if own and all(not _given(getattr(freeze, key)) for key in own):
        keys = " or ".join(own)
        yield (
            f"{where} must have {keys} for policy {freeze.policy}. Received: none. "
            f"Add {where}.{own[0]}=…"
        )
    if freeze.policy == "depth" and freeze.unfreeze_depth is not None:
        depth = freeze.unfreeze_depth
        fix = "0 is a linear probe; 1 trains the stage below the head too."
        yield from _number(f"{where}.unfreeze_depth", depth, "at least 0", depth >= 0, fix)
    if freeze.policy == "patterns":
        yield from _check_patterns(where, freeze.train or [], freeze.freeze or [])


def _given(value: Any) -> bool:
    return value is not None and value != []


def _check_patterns(where: str, train: list[str], freeze: list[str]) -> Iterator[str]:
    for key, patterns in (("train", train), ("freeze", freeze)):
        for index, pattern in enumerate(patterns):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                yield (
                    f"{where}.{key}[{index}] must be a regular expression. Received: {pattern} "
                    f"({error}). Escape special characters with a backslash."
                )
    for pattern in sorted(set(train) & set(freeze)):
        yield (
            f"{where} must not train and freeze the same pattern: two rules disagree. "
            f"Received: {pattern} in both. Keep it in one list."
        )


def _check_optimizer(optimizer: OptimizerConfig) -> Iterator[str]:
    yield from _choice("optimizer.name", "an optimizer", optimizer.name, OPTIMIZERS)
    for key in ("beta_1", "beta_2", "momentum"):
        value = getattr(optimizer, key)
        ok = value is not None and 0 <= value < 1
        yield from _number(f"optimizer.{key}", value, "in [0, 1)", ok, "0.9 is usual.")
    decay = optimizer.weight_decay
    ok = decay is not None and decay >= 0
    yield from _number("optimizer.weight_decay", decay, "at least 0", ok, "0 turns it off.")
    yield from _positive("optimizer.epsilon", optimizer.epsilon, "1e-7 is usual.")
    yield from _positive("optimizer.clipnorm", optimizer.clipnorm, "null turns clipping off.")
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
    yield from _choice("features.cache", "a mode", features.cache, CACHE_MODES)
    yield from _choice("features.dtype", "a dtype", features.dtype, FEATURE_DTYPES)
    yield from _positive("features.max_gib", features.max_gib, "features.cache=never stores none.")
    views = features.views
    fix = "0 stores no augmented view."
    yield from _number("features.views", views, "at least 0", views >= 0, fix)
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
    yield from _choice("runtime.device", "a device", runtime.device, DEVICES)
    yield from _choice("runtime.precision", "a precision", runtime.precision, PRECISIONS)
    yield from _positive("runtime.steps_per_execution", runtime.steps_per_execution, "1 is usual.")
    minutes = runtime.checkpoint_minutes
    fix = "10 is usual, null keeps nothing within an epoch."
    ok = minutes is None or minutes >= 0
    yield from _number("runtime.checkpoint_minutes", minutes, "at least 0", ok, fix)


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
        yield from _choice("trackers.wandb_mode", "a mode", mode, WANDB_MODES)
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

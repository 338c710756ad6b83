"""The typed config: every key a user can set, its default, and all checks that need only YAML.

This module and `finetune.composition` are the only ones that see an OmegaConf object; everything
else takes plain typed arguments. Importing it loads neither Keras nor TensorFlow.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from finetune.errors import ConfigError, unknown_name

POLICIES = {
    "depth": "train the last `unfreeze_depth` backbone stages, counted from the head; 0 is a probe",
    "stages": "train the named backbone `stages`, wherever they are (surgical fine-tuning)",
    "patterns": "regular expressions over weight paths: `train` first, then `freeze`; first match",
    "bias_only": "train biases and normalization offsets everywhere (BitFit); freeze the rest",
    "norm_only": "train the scale and offset of normalization layers; freeze the rest",
    "all": "freeze all of the backbone; only the head trains (a linear probe)",
    "none": "freeze nothing; every weight that can train trains",
}
POLICY_KEYS = {
    "depth": ("unfreeze_depth",),
    "stages": ("stages",),
    "patterns": ("train", "freeze"),
}
BATCH_NORM_MODES = ("inference", "train")
MONITORS = ("loss", "accuracy")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion")
DEVICES = ("auto", "cpu", "gpu")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
POOLINGS = ("avg", "max")


@dataclass
class BackboneConfig:
    """The pretrained network: one of `preset` or `path`."""

    name: str | None = None
    preset: str | None = None
    path: str | None = None
    load_weights: bool = True


@dataclass
class HeadConfig:
    """The new layers after the backbone."""

    pooling: str = "avg"
    dropout: float = 0.0


@dataclass
class SplitsConfig:
    """TFDS split expressions, e.g. ``train[:90%]``."""

    train: str = "train"
    validation: str = "validation"
    test: str = "test"


@dataclass
class DatasetConfig:
    """What to train on, and how it is fed."""

    name: str = MISSING
    version: str | None = None
    config: str | None = None
    data_dir: str | None = None
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    batch_size: int = 32
    image_size: int | None = None
    max_samples: int | None = None
    train_per_class: int | None = None


@dataclass
class FreezeConfig:
    """A freeze policy and the keys that belong to it."""

    policy: str = "depth"
    unfreeze_depth: int | None = None
    stages: list[str] | None = None
    train: list[str] | None = None
    freeze: list[str] | None = None


@dataclass
class PhaseConfig:
    """One entry of the schedule."""

    epochs: int = MISSING
    learning_rate: float = MISSING
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    batch_norm: str = "inference"
    stage_lr_decay: float = 1.0
    patience: int | None = None
    restore_best: bool = False
    monitor: str = "loss"


@dataclass
class ScheduleConfig:
    """Explicit phases, then those that a progressive range of unfreeze depths expands to."""

    phases: dict[str, Any] = field(default_factory=dict)  # of PhaseConfig, made by read()
    from_depth: int | None = None
    to_depth: int | None = None
    epochs_per_phase: int = 2
    learning_rate: float = 1e-3
    stage_lr_decay: float = 1.0
    batch_norm: str = "inference"
    patience: int | None = None
    restore_best: bool = False
    monitor: str = "loss"


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
class RuntimeConfig:
    """Where and how exactly the computation runs."""

    device: str = "auto"
    precision: str = "auto"
    deterministic: bool = True
    steps_per_execution: int = 1


@dataclass
class Config:
    """The whole config of one run."""

    seed: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


GROUPS = ("backbone", "dataset", "schedule", "optimizer", "runtime", "experiment")
# The keys of the optimizer config that each Keras optimizer takes, beyond clipnorm.
OPTIMIZER_KEYS = {
    "adamw": ("weight_decay", "beta_1", "beta_2", "epsilon"),
    "adam": ("weight_decay", "beta_1", "beta_2", "epsilon"),
    "sgd": ("weight_decay", "momentum"),
    "rmsprop": ("weight_decay", "momentum", "epsilon"),
    "lion": ("weight_decay", "beta_1", "beta_2"),
}


def read(node: DictConfig) -> Config:
    """Turns a composed config into plain typed objects.

    Args:
        node: what Hydra composed; keys outside the schema are tolerated only under ``hydra``.

    Returns:
        The config; each entry of ``schedule.phases`` is a `PhaseConfig`.

    Raises:
        ConfigError: with every unknown key, wrong type and wrong value at once.
    """
    problems: list[str] = []
    config = _read(Config, node, "", problems)
    phases = node.schedule.phases
    for name in phases:
        where = f"schedule.phases.{name}"
        config.schedule.phases[name] = _read(PhaseConfig, phases[name], where, problems)
    named = tuple(problem.partition(" ")[0] for problem in problems)
    problems += [each for each in check(config) if not each.startswith(named or ("\0",))]
    if problems:
        raise ConfigError(problems)
    return config


def _read(schema: type, node: Any, where: str, problems: list[str]) -> Any:
    """Reads `node` as the dataclass `schema`, appending to `problems` what does not fit."""
    result = schema()
    if not isinstance(node, DictConfig):
        problems.append(
            f"{where} must be a mapping of {', '.join(f.name for f in fields(schema))}. "
            f"Received: {node}. Write {where}={{key: value, …}}."
        )
        return result
    known = {each.name: each for each in fields(schema)}
    for key in node:
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            if path != "hydra":
                problems.append(unknown_name(path, "a key of the config", str(key), known))
            continue
        default = getattr(result, str(key))
        if is_dataclass(default):
            setattr(result, str(key), _read(type(default), node[key], path, problems))
        elif not OmegaConf.is_missing(node, key) and path != "schedule.phases":
            try:
                merged = OmegaConf.merge(OmegaConf.structured(schema), {str(key): node[key]})
                value = merged[str(key)]  # type: ignore[index] - a DictConfig
                plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                setattr(result, str(key), plain)
            except OmegaConfBaseException as error:
                problems.append(wrong_type(path, node[key], error))
    return result


def wrong_type(path: str, value: Any, error: OmegaConfBaseException) -> str:
    """Returns the message for a value that OmegaConf refused."""
    reason = str(error).splitlines()[0]
    return f"{path} must have the right type. Received: {value}. {reason}."


def check(config: Config) -> list[str]:
    """Returns every problem that can be seen in the config alone; an empty list where none is."""
    return [
        *_check_seed(config.seed),
        *_check_backbone(config.backbone),
        *_check_head(config.head),
        *_check_dataset(config.dataset),
        *_check_schedule(config.schedule),
        *_check_optimizer(config.optimizer),
        *_check_runtime(config.runtime),
    ]


def _number(
    where: str,
    value: float | None,
    expected: str,
    ok: bool,
    fix: str,
) -> Iterator[str]:
    if value is not None and not (math.isfinite(value) and ok):
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
    ok = 0 <= head.dropout < 1
    yield from _number("head.dropout", head.dropout, "in [0, 1)", ok, "0 turns dropout off.")


def _check_dataset(dataset: DatasetConfig) -> Iterator[str]:
    if dataset.name == MISSING:
        yield (
            "dataset.name must be the name of a TFDS dataset. Received: nothing. "
            "Add dataset.name=NAME."
        )
    yield from _positive("dataset.batch_size", dataset.batch_size, "32 is a usual start.")
    fix = "Leave it out (null) for no limit."
    yield from _positive("dataset.image_size", dataset.image_size, "null is the backbone's own.")
    yield from _positive("dataset.max_samples", dataset.max_samples, fix)
    yield from _positive("dataset.train_per_class", dataset.train_per_class, fix)


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
            except re.error as error:
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


def _check_runtime(runtime: RuntimeConfig) -> Iterator[str]:
    yield from _choice("runtime.device", "a device", runtime.device, DEVICES)
    yield from _choice("runtime.precision", "a precision", runtime.precision, PRECISIONS)
    yield from _positive("runtime.steps_per_execution", runtime.steps_per_execution, "1 is usual.")

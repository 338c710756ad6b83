"""Puts KerasHub's own classifier head on a backbone, and saves the task for anyone to load."""

import inspect
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_hub

from finetune.backbones.families import image_classifiers
from finetune.errors import ConfigError

if TYPE_CHECKING:
    from finetune.backbones.loading import LoadedBackbone

LABELS_FILE = "labels.json"


def build_task(
    loaded: "LoadedBackbone", num_classes: int, *, pooling: str, dropout: float, seed: int
) -> keras_hub.models.ImageClassifier:
    """Builds the task model: preprocessor, backbone and a new head that outputs logits.

    Args:
        loaded: what `finetune.backbones.loading.load` returned; its backbone is shared.
        num_classes: outputs of the head, at least 2.
        pooling: ``avg`` or ``max``.
        dropout: in [0, 1), before the output layer.
        seed: fixes the head's initial weights, whatever was drawn before.

    Returns:
        The concrete KerasHub classifier, so that the exported preset loads again; not compiled.

    Raises:
        ConfigError: if KerasHub has no classifier for the backbone, or it has no such option.
    """
    cls = image_classifiers().get(type(loaded.backbone))
    if cls is None:
        raise ConfigError(
            "backbone must be one that KerasHub has an image classifier for. Received: "
            f"{loaded.name} ({type(loaded.backbone).__name__}). "
            "Use resnet, efficientnet, mobilenet, vit or another classifier family."
        )
    options = _head_options(cls, pooling, dropout)
    preprocessor = cls.preprocessor_cls(image_converter=loaded.image_converter)
    with _seeded(seed):
        return cls(
            backbone=loaded.backbone,
            num_classes=num_classes,
            preprocessor=preprocessor,
            compile=False,
            **options,
        )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Fixes what Keras draws from Python's `random` (seeds of initializers), then restores it."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _head_options(cls: Any, pooling: str, dropout: float) -> dict[str, Any]:
    """Returns the constructor arguments of `cls` for our options; classes name them differently."""
    parameters = inspect.signature(cls.__init__).parameters
    options: dict[str, Any] = {"activation": None} if "activation" in parameters else {}
    key = next((each for each in ("pooling", "global_pool") if each in parameters), None)
    # Token backbones (ViT, DeiT) call the average over tokens "gap" and have no maximum.
    takes_max = key is not None and parameters[key].default != "token"
    if pooling == "max" and not takes_max:
        raise ConfigError(
            f"head.pooling must be avg: {cls.__name__} has no other. Received: max. "
            "Set head.pooling=avg."
        )
    if key is not None:
        options[key] = pooling if takes_max else "gap"
    key = next((each for each in ("dropout", "drop_rate") if each in parameters), None)
    if key is not None:
        options[key] = dropout
    elif dropout > 0:
        raise ConfigError(
            f"head.dropout must be 0: {cls.__name__} has no dropout in its head. "
            f"Received: {dropout}. Set head.dropout=0."
        )
    return options


def save_task(
    task: keras_hub.models.ImageClassifier, directory: str | Path, classes: Sequence[str]
) -> None:
    """Writes the task as a KerasHub preset with its label names, whole or not at all.

    What is on disk holds no optimizer state and does not say what was frozen in training; `task`
    is left as it is. An existing directory is replaced.

    Args:
        task: what `build_task` made, trained.
        directory: the preset directory, e.g. ``RUN_DIR/model``.
        classes: the label names in the order of the logits, written to ``labels.json``.

    Raises:
        ConfigError: if the number of names is not that of the outputs.
    """
    if len(classes) != task.num_classes:
        raise ConfigError(
            f"classes must be {task.num_classes} names, one per output. "
            f"Received: {len(classes)}. Give the dataset's own class names."
        )
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(f".{target.name}.new-{os.getpid()}")
    replaced = target.with_name(f".{target.name}.old-{os.getpid()}")
    for each in (written, replaced):
        shutil.rmtree(each, ignore_errors=True)
    try:
        with _as_new(task):
            task.save_to_preset(str(written))
        for path in written.glob("*.json"):
            config = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(_thawed(config), indent=4), encoding="utf-8")
        labels = json.dumps({"classes": list(classes)}, indent=2, ensure_ascii=False)
        (written / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
        if target.exists():
            target.rename(replaced)
        written.rename(target)
    finally:
        shutil.rmtree(written, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _as_new(task: Any) -> Iterator[None]:
    """Makes what is written of the task that of an untrained one: an optimizer without state.

    KerasHub writes the optimizer into the task's weights, and warns at loading if its state is
    not that of one that has not been built. It also serializes how the task was compiled, to
    leave that out afterwards.
    """
    optimizer, compiled = getattr(task, "optimizer", None), task.compiled
    task.optimizer, task.compiled = keras.optimizers.Adam(), False
    try:
        yield
    finally:
        task.optimizer, task.compiled = optimizer, compiled


def _thawed(value: Any) -> Any:
    """Returns a config with every `trainable` flag at its default: freezing ends with training."""
    if isinstance(value, dict):
        return {k: True if k == "trainable" else _thawed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_thawed(each) for each in value]
    return value

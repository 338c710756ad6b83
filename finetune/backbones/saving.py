"""Saving of a trained task model that KerasHub alone can load."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import keras_hub

from finetune.record.files import CARD_FILE
from finetune.storage.durable import fresh_directory

LABELS_FILE, MODEL_FILE = "labels.json", "model.keras"


def save_task(
    task: keras.Model,
    directory: Path,
    labels: Mapping[str, Any],
    preprocessor: Any = None,
    backbone: keras.Model | None = None,
    card: str | None = None,
) -> None:
    """Writes a task model with its label names and its card, either completely or not at all.

    A KerasHub classifier becomes a preset for ``from_preset(directory)`` of its class. Any other
    model becomes ``model.keras``. Its preprocessor, and the config by which KerasHub recognises it,
    are written next to it for ``TextClassifierPreprocessor.from_preset(directory)`` or
    ``ImageConverter.from_preset(directory)``.

    The files contain no optimizer state, and do not say what was frozen in training. `task` is left
    unchanged. An existing directory is replaced.

    Args:
        task: Trained task model.
        directory: Directory to write, e.g. ``RUN_DIR/model``.
        labels: Content of ``labels.json``: ``classes`` in the order of the outputs.
        preprocessor: KerasHub preprocessor that makes the inputs of `task`; None if it takes
            numbers.
        backbone: KerasHub backbone in `task`, if there is one.
        card: Content of ``README.md``, where hubs look for it; None writes no card.
    """
    with fresh_directory(directory) as written:
        with _as_new(task):
            _write(task, written, preprocessor, backbone)
        names = json.dumps(labels, indent=2, ensure_ascii=False) + "\n"
        for name, text in ((LABELS_FILE, names), (CARD_FILE, card)):
            if text is not None:
                (written / name).write_text(text, encoding="utf-8", errors="backslashreplace")


def preset_task(task: keras.Model) -> str | None:
    """Returns the class of `keras_hub.models` that loads a saved task, or None for Keras."""
    for name in ("ImageClassifier", "TextClassifier"):
        if isinstance(task, getattr(keras_hub.models, name)):
            return name
    return None


def _write(task: Any, directory: Path, preprocessor: Any, backbone: Any) -> None:
    if isinstance(task, keras_hub.models.Task):
        before, task.preprocessor = task.preprocessor, preprocessor
        try:
            task.save_to_preset(str(directory))
        finally:
            task.preprocessor = before
    else:
        if preprocessor is not None:
            preprocessor.save_to_preset(str(directory))
        if backbone is not None:
            config = keras.saving.serialize_keras_object(backbone)
            (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        task.save(directory / MODEL_FILE)
        _thaw_archive(directory / MODEL_FILE)
    for path in directory.glob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_thawed(config), indent=4), encoding="utf-8")


def _thaw_archive(path: Path) -> None:
    """Rewrites the config in a ``.keras`` file with every `trainable` flag at its default."""
    thawed = path.with_suffix(".new")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(thawed, "w") as copy:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename == "config.json":
                content = json.dumps(_thawed(json.loads(content))).encode()
            copy.writestr(entry, content)
    thawed.rename(path)


@contextmanager
def _as_new(task: Any) -> Iterator[None]:
    """Gives the task the state of an untrained one while it is written: an optimizer without state.

    KerasHub writes the optimizer into the task's weights, and warns on loading if its state is not
    that of an unbuilt one. It also serializes how the task was compiled, only to leave that out
    afterwards.
    """
    optimizer, compiled = getattr(task, "optimizer", None), task.compiled
    task.optimizer, task.compiled = keras.optimizers.Adam(), False
    try:
        yield
    finally:
        task.optimizer, task.compiled = optimizer, compiled


def _thawed(value: Any) -> Any:
    """Returns a config with all `trainable` flags at their default: freezing ends with training."""
    if isinstance(value, dict):
        return {k: True if k == "trainable" else _thawed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_thawed(item) for item in value]
    return value

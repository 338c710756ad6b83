"""Errors for paths that are not the directory of a backbone, with what to do about each kind."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

_KERAS_FILES = (".keras", ".h5", ".hdf5")
WHOLE_MODEL = "model.keras"  # what a run with a head of this package saves
OWN_MODEL = (
    "Load it in Python and train it with finetune.FineTuner(model), or save its backbone with "
    "KerasHub's save_to_preset."
)


def no_directory(path: Path, where: str) -> ConfigError:
    """Returns the error for a path that is not a directory."""
    found, fix = "no such directory", "Check the path, or use backbone.preset=resnet_mini."
    if is_file(path):
        found = "a file"
        if path.suffix in _KERAS_FILES:
            found, fix = "a file of a Keras model", OWN_MODEL
        elif (path.parent / "config.json").is_file():
            fix = f"Give its directory: {path.parent}"
    return ConfigError(
        f"{where} must be a directory of a KerasHub, Hugging Face or timm model. Received: "
        f"{path} ({found}). {fix}"
    )


def refuse_others(directory: Path, where: str) -> None:
    """Refuses directories of another kind, and says what to do with that kind."""
    archives = sorted(path.name for path in directory.iterdir() if path.suffix in _KERAS_FILES)
    found, fix = None, OWN_MODEL
    if (directory / "run.json").is_file():
        model = directory / "model"
        found, fix = "a run directory", f"Give the model that the run has saved: {model}"
        if not (model / "config.json").is_file():
            fix = "The run has not saved a model: resume it, or choose another one."
        elif (model / WHOLE_MODEL).is_file():
            fix = f"The run saved backbone and head in one file, {model / WHOLE_MODEL}. {OWN_MODEL}"
    elif (directory / "saved_model.pb").is_file():
        found = "a SavedModel, which cannot be trained"
    elif archives and not (directory / "model.weights.h5").is_file():
        found = f"a directory with {archives[0]}, a file of a Keras model"
    if found is not None:
        raise ConfigError(
            f"{where} must be a directory of a KerasHub, Hugging Face or timm model. Received: "
            f"{directory} ({found}). {fix}"
        )


def is_file(path: Path) -> bool:
    """Returns whether a path is a file; False for paths that cannot be checked."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def refuse_quantized(config: Mapping[str, Any], directory: Path, where: str) -> None:
    """Refuses presets that KerasHub saved after `quantize`, whose kernels are integers."""
    settings = config.get("config")
    text = json.dumps(settings.get("dtype") if isinstance(settings, dict) else None)
    found = re.search(r'"(\w*Quantized\w*|(?:int[48]|float8|gptq|awq)\w*)"', text)
    if found is not None:
        raise quantized(directory, found[1], where)


def quantized(directory: Path, found: str, where: str) -> ConfigError:
    """Returns the error for quantized weights, given the sign `found` of it."""
    return ConfigError(
        f"{where} must contain weights in floating point, because quantized ones cannot be "
        f"fine-tuned. Received: {directory} with {found} in config.json. Use the original checkpoint."
    )

"""Reading of ``model.keras`` files from untrusted sources: nothing in them can choose what runs."""

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import keras_hub

from finetune.backbones.untrusted import ASSETS, check_h5, read_json
from finetune.errors import ConfigError, first_line

_CONFIG, _TASK, _WEIGHTS = "config.json", "task.json", "model.weights.h5"
_FLOOR, _EXPANSION = 64 << 20, 100  # bytes; weights hardly compress
# Functions are looked up by name among Keras' own; the other classes hold values.
_PLAIN = ("function", "__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__")
_PARTS = (
    keras.Operation,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
    keras.dtype_policies.DTypePolicyMap,
)
_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


def read_weights(model: keras.Model, archive: Path, where: str) -> None:
    """Reads the weights of a built model, and nothing else, from an archive.

    Args:
        model: Model with the architecture of the saved one; changed in place.
        archive: Path of a ``.keras`` file.
        where: Config path or argument that names the archive, for messages.

    Raises:
        ConfigError: If there is no such file, or its weights are those of another model.
    """
    with _unpacked(archive, where) as folder:
        try:
            model.load_weights(folder / _WEIGHTS)
        except (ValueError, KeyError, OSError) as error:
            raise _unusable(archive, where, error) from error


def read_model(archive: Path, where: str) -> keras.Model:
    """Reads a model made of layers of Keras, KerasHub, and others that this process has registered.

    Args:
        archive: Path of a ``.keras`` file.
        where: Config path or argument that names the archive, for messages.

    Raises:
        ConfigError: If it contains anything else; it names layers that are not registered.
    """
    with _unpacked(archive, where) as folder:
        _require_known(archive, where, read_json(folder / _CONFIG, where))
        try:
            model: Any = keras.saving.load_model(archive, compile=False, safe_mode=True)
            return model
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise _unusable(archive, where, error) from error


def read_task(folder: Path, where: str) -> Any:
    """Reads a KerasHub task and its preprocessor from what `save_task` wrote of a user's own model.

    Args:
        folder: Directory of a KerasHub preset in which all files were written by a run.
        where: Config path or argument that names the directory, for messages.

    Raises:
        ConfigError: If a file is not of a task made of KerasHub's classes and others that this
            process has registered.
    """
    configs = {file: read_json(file, where) for file in sorted(folder.glob("*.json"))}
    _require_known(folder, where, configs)
    name = configs.get(folder / _TASK, {}).get("registered_name")
    cls = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if not isinstance(cls, type) or not issubclass(cls, keras_hub.models.Task):
        raise _unusable(folder, where, ValueError(f"{_TASK} does not name a KerasHub task"))
    for file in folder.glob("*.h5"):
        check_h5(file, where)
    try:
        return cls.from_preset(str(folder))
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise _unusable(folder, where, error) from error


def _require_known(source: Path, where: str, config: Any) -> None:
    """Refuses classes that are neither Keras' own nor registered by this process."""
    objects = list(_objects(config))
    unknown = {str(entry.get("class_name")): None for entry in objects if not _known(entry)}
    if unknown:
        raise ConfigError(
            f"{where} must contain only layers of Keras and layers that this process has registered. "
            f"Received: {', '.join(unknown)} in {source}. In Python, import the module that registers "
            "them (keras.saving.register_keras_serializable), or open a "
            "keras.saving.custom_object_scope, before you call finetune.load(RUN_DIR)."
        )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yields everything that Keras would turn into an object; the compile config is never read."""
    if isinstance(value, dict):
        if "class_name" in value or "registered_name" in value:
            yield value
        for key, item in value.items():
            if key != "compile_config":
                yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _known(value: dict[str, Any]) -> bool:
    name, module = value.get("class_name"), str(value.get("module"))
    config = value.get("config")
    if isinstance(config, dict) and any(isinstance(config.get(asset), str) for asset in ASSETS):
        return False  # the path of another file
    if name == "function":
        return module in ("builtins", "keras.activations") or _registered(config)
    if name in _PLAIN:
        return True
    if _registered(value.get("registered_name")):
        return name not in _CODE
    found = getattr(sys.modules.get(module), str(name), None)
    return (
        module.partition(".")[0] == "keras"
        and name not in _CODE
        and isinstance(found, type)
        and issubclass(found, _PARTS)
    )


def _registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


@contextmanager
def _unpacked(archive: Path, where: str) -> Iterator[Path]:
    """Unpacks the config and weights of an archive to a folder, after checking their sizes."""
    with tempfile.TemporaryDirectory(prefix="finetune-model-") as made:
        folder = Path(made)
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in (_CONFIG, _WEIGHTS):
                    entry = opened.getinfo(name)
                    if entry.file_size > max(_FLOOR, _EXPANSION * entry.compress_size):
                        raise ValueError(f"{name} declares {entry.file_size} bytes")
                    with opened.open(entry) as source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise _unusable(archive, where, error) from error
        check_h5(folder / _WEIGHTS, where)
        yield folder


def _unusable(archive: Path, where: str, error: BaseException) -> ConfigError:
    return ConfigError(
        f"{where} must be a complete model saved by Keras. Received: {archive} ({first_line(error)}). Save it "
        "again, or copy it again from the original."
    )

"""Loads a backbone with its image converter: bundled, from a directory, or a KerasHub preset.

Only names of closed catalogs and KerasHub's own image classes are accepted, so that nothing in a
preset can choose what runs.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from finetune.backbones import network
from finetune.backbones.catalog import BUNDLED_BACKBONES
from finetune.backbones.families import image_classifiers, size_argument
from finetune.errors import ConfigError, unknown_name

_DEFAULT_SIZE = 224  # what ImageNet backbones are trained at, where a preset names no size
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A backbone ready for a head, with what turns examples into its input.

    Args:
        name: what the record calls it.
        source: ``bundled``, ``directory``, ``kerashub``, ``huggingface`` or ``kaggle``.
        backbone: built, its weights loaded.
        kind: of its input, ``image`` or ``text``.
        preprocessor: of KerasHub, of the family's classifier where there is one. An image
            preprocessor's `image_converter` is set to `image_size`; a text preprocessor's
            `sequence_length` to the number of tokens it makes.
        weights_sha256: digest of the backbone's weights as loaded.
        preprocessing: what the checkpoint asks for, for people and for the key of stored features:
            size, scale, mean, std, interpolation; or tokenizer, vocabulary, casing, length.
        image_size: (height, width) that an image backbone is built at; None for text.
    """

    name: str
    source: str
    backbone: keras.Model
    kind: str
    preprocessor: Any
    weights_sha256: str
    preprocessing: dict[str, Any]
    image_size: Size | None = None

    @property
    def image_converter(self) -> keras_hub.layers.ImageConverter:
        """Of an image backbone."""
        return self.preprocessor.image_converter


def load(
    preset: str | None = None,
    path: str | Path | None = None,
    *,
    load_weights: bool = True,
    image_size: int | Size | None = None,
    name: str | None = None,
    revision: str | None = None,
    sequence_length: int | None = None,
) -> LoadedBackbone:
    """Loads a backbone and what turns raw images into its input.

    Args:
        preset: a bundled backbone or a KerasHub preset, e.g. ``resnet_18_imagenet``.
        path: a KerasHub preset directory; exactly one of `preset` and `path` is given.
        load_weights: False draws random weights; `keras.utils.set_random_seed` fixes them.
        image_size: pixels a side, or (height, width); None is the preset's own.
        name: what the record calls the backbone; default the preset's or directory's name.

    Returns:
        The backbone built at a fixed image size, its converter set to the same size.

    Raises:
        ConfigError: for a preset or directory that cannot be used, a missing network, or a size
            that the backbone refuses.
    """
    if (preset is None) == (path is None):
        raise ConfigError(
            "backbone must have exactly one of preset and path. "
            f"Received: preset={preset}, path={path}. Drop one of them."
        )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if path is not None:
        directory, where, source = Path(path), "backbone.path", "directory"
    elif preset in BUNDLED_BACKBONES:
        directory, where, source = BUNDLED_BACKBONES[preset].path, "backbone.preset", "bundled"
    else:
        return _from_kerashub(str(preset), load_weights, size, name)
    config = _read_directory(directory, where, load_weights)
    family = _families_by_registered_name()[config["registered_name"]]
    own = (config.get("config") or {}).get(size_argument(family))
    built_at = tuple(own[:2]) if own and None not in own else None
    called = name or (preset if preset is not None else directory.resolve().name)
    with _translated(where, str(directory)):
        return _assemble(called, source, str(directory), family, load_weights, size, built_at)


def _from_kerashub(
    preset: str, load_weights: bool, size: Size | None, name: str | None
) -> LoadedBackbone:
    """Loads one of KerasHub's own presets, downloading it where it is not on disk."""
    where = "backbone.preset"
    families = image_classifiers()
    family = next((each for each in families if preset in each.presets), None)
    if family is None and preset in dict(keras_hub.models.Backbone.presets):  # type: ignore[call-overload]
        raise ConfigError(
            f"{where} must be an image backbone that KerasHub has a classifier for (images only "
            f"in this version). Received: {preset}. Use resnet_18_imagenet, for example."
        )
    if family is None:
        known = {each for cls in families for each in cls.presets}
        valid = [*BUNDLED_BACKBONES, *sorted(known)]
        raise ConfigError(unknown_name(where, "a bundled or KerasHub preset", preset, valid))
    network.require(family.presets[preset]["kaggle_handle"], preset)
    with _translated(where, preset):
        return _assemble(name or preset, "kerashub", preset, family, load_weights, size, None)


def _assemble(
    name: str,
    source: str,
    preset: str,
    family: Any,
    load_weights: bool,
    size: Size | None,
    built_at: Size | None,
) -> LoadedBackbone:
    """Builds converter and backbone at one size: the user's, the backbone's or the converter's."""
    converter = _load_converter(preset, family)
    arguments: dict[str, Any] = {}
    argument, optional = size_argument(family), _size_is_optional(family)
    target = size or built_at or (converter.image_size if optional else None)
    if target is None and optional:
        target = (_DEFAULT_SIZE, _DEFAULT_SIZE)
    if target is not None and target != built_at and argument is not None:
        arguments[argument] = (*target, 3)
    try:
        backbone = family.from_preset(preset, load_weights=load_weights, **arguments)
    except ValueError as error:
        if size is None:
            raise
        raise ConfigError(
            f"dataset.image_size must be a size that {name} accepts. Received: "
            f"{size[0]}×{size[1]} ({_first_line(error)}). Leave it null for the backbone's own."
        ) from error
    height, width = backbone.input_shape[1:3]
    converter.image_size = (height, width)
    preprocessor = image_classifiers()[family].preprocessor_cls(image_converter=converter)
    return LoadedBackbone(
        name,
        source,
        backbone,
        "image",
        preprocessor,
        weights_sha256(backbone),
        preprocessing={"image_size": [height, width]},
        image_size=(height, width),
    )


def _load_converter(preset: str, family: Any) -> keras_hub.layers.ImageConverter:
    """Returns the preset's image converter, or the family's own with scale 1/255."""
    cls = image_classifiers()[family].preprocessor_cls.image_converter_cls
    local = Path(preset) / "image_converter.json"
    try:
        if local.is_file():
            stored = json.loads(local.read_text(encoding="utf-8")).get("registered_name")
            if stored != keras.saving.get_registered_name(cls):
                raise ConfigError(
                    f"backbone.path must hold an image_converter.json of {cls.__name__}. "
                    f"Received: {stored} in {local}. Save it with KerasHub's save_to_preset."
                )
        return cls.from_preset(preset, dtype="float32")
    except FileNotFoundError:
        return cls(scale=1 / 255, dtype="float32")


def _size_is_optional(family: Any) -> bool:
    """True for backbones that are built at any size (CNNs), False where a preset fixes it."""
    return size_argument(family, with_default=True) is not None


def _families_by_registered_name() -> dict[str, Any]:
    return {keras.saving.get_registered_name(each): each for each in image_classifiers()}


def _read_directory(directory: Path, where: str, load_weights: bool) -> dict[str, Any]:
    """Returns config.json of a preset directory that has all that loading needs."""
    expected = f"{where} must be a KerasHub preset directory"
    fix = "Write one with save_to_preset, or use backbone.preset=resnet_mini."
    if not directory.is_dir():
        raise ConfigError(f"{expected}. Received: {directory} (no such directory). {fix}")
    lacks = [] if (directory / "config.json").is_file() else ["config.json"]
    weights = ("model.weights.h5", "model.weights.json")
    if load_weights and not any((directory / each).is_file() for each in weights):
        lacks.append("model.weights.h5")
    if lacks:
        raise ConfigError(f"{expected}. Received: {directory} without {', '.join(lacks)}. {fix}")
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"{expected}. Received: {directory} with a config.json that is not JSON ({error}). "
            f"{fix}"
        ) from error
    registered = config.get("registered_name") if isinstance(config, dict) else None
    if registered is None:
        raise ConfigError(
            f"{expected}. Received: {directory} with a config.json that is not KerasHub's (no "
            f"registered_name). Convert Hugging Face or timm weights with KerasHub first. {fix}"
        )
    if registered not in _families_by_registered_name():
        raise ConfigError(
            f"{where} must hold an image backbone that KerasHub has a classifier for (images only "
            f"in this version). Received: {registered} in {directory}. "
            f"Valid: {', '.join(sorted(_families_by_registered_name()))}."
        )
    return config


def weights_sha256(backbone: keras.Model) -> str:
    """Returns one digest over the path, shape, dtype and bytes of every weight, in order.

    The counters that Keras adds to unnamed layers (``conv2d_3``) depend on what was built before
    in the process and are left out of the paths.
    """
    digest = hashlib.sha256()
    for weight in backbone.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        path = re.sub(r"_\d+(?=/|$)", "", weight.path)
        digest.update(f"{path} {tuple(weight.shape)} {value.dtype}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@contextmanager
def _translated(where: str, preset: str) -> Iterator[None]:
    """Turns what KerasHub and its downloaders raise into a message that says what to do."""
    try:
        yield
    except ConfigError:
        raise
    except network.errors() as error:
        raise ConfigError(network.message(preset, _first_line(error))) from error
    except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{where} must be a preset that KerasHub can load. Received: {preset} "
            f"({type(error).__name__}: {_first_line(error)}). Check that its files are complete, "
            "or use backbone.preset=resnet_mini."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

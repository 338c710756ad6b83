"""KerasHub image converters from a checkpoint's settings, and their description.

A converter multiplies pixels in 0..255 by `scale` and adds `offset`. Checkpoints express the same
as (pixel × rescale − mean) / std, so that scale = rescale / std and offset = −mean / std.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.backbones.directories import HUGGING_FACE, KERASHUB, Checkpoint
from finetune.backbones.untrusted import check_objects, read_json
from finetune.errors import ConfigError

_RESCALE = 1 / 255
# Pillow's numbers, as in preprocessor_config.json. Keras has no box (4) and hamming (5).
_RESAMPLE = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}
_TIMM_NAMES = {
    "nearest": "nearest",
    "lanczos": "lanczos3",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
# timm's own defaults (timm/data/config.py, timm/data/constants.py).
_TIMM_DEFAULTS = {
    "input_size": [3, 224, 224],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}


def load_converter(checkpoint: Checkpoint, where: str) -> tuple[Any, dict[str, Any]]:
    """Returns the image converter that a checkpoint specifies.

    KerasHub's converters for Hugging Face and timm ignore what they cannot read: all of it for ViT,
    DeiT and DINO, the resampling for Swin, antialiasing for timm. The settings are read here
    instead.

    Args:
        checkpoint: Checkpoint of an image family.
        where: Config path that names the checkpoint, for messages.

    Returns:
        The family's KerasHub converter, and the settings of the checkpoint that it does not
        support.

    Raises:
        ConfigError: If settings are missing, or Keras has no equivalent.
    """
    if checkpoint.format == KERASHUB:
        return _of_kerashub(checkpoint, where), {}
    if checkpoint.format == HUGGING_FACE:
        settings, crop = _of_hugging_face(checkpoint, where)
    else:
        settings, crop = _of_timm(checkpoint.config, where)
    notes = {} if crop >= 1 else {"checkpoint_crop_not_applied": round(crop, 6)}
    # Both were trained on images resized by Pillow, which always antialiases.
    converter = checkpoint.family.image_converter(antialias=True, dtype="float32", **settings)
    return converter, notes


def describe(converter: Any) -> dict[str, Any]:
    """Returns what a converter does, as JSON values in the terms of checkpoints."""
    scale, offset = converter.scale, converter.offset
    rescale = 1.0 if scale is None else _RESCALE
    scales = [1.0] * 3 if scale is None else _channels(scale)
    offsets = [0.0] * 3 if offset is None else _channels(offset)
    return {
        "image_size": list(converter.image_size or ()),
        "scale": round(rescale, 8),
        # Adding 0.0 turns the −0.0 of a missing offset into 0.0.
        "mean": [round(-o * rescale / s, 6) + 0.0 for s, o in zip(scales, offsets, strict=True)],
        "std": [round(rescale / s, 6) for s in scales],
        "interpolation": converter.interpolation,
        "antialias": bool(converter.antialias),
        "crop_to_aspect_ratio": bool(converter.crop_to_aspect_ratio),
        "pad_to_aspect_ratio": bool(converter.pad_to_aspect_ratio),
    }


def resizing_by(converter: Any, way: str) -> Any:
    """Returns a converter that differs in how it resizes images.

    Args:
        converter: KerasHub image converter.
        way: ``crop`` to the largest part in the middle, ``pad`` with black at both sides, or
            ``stretch``, which does not keep the aspect ratio.
    """
    ways = {"crop_to_aspect_ratio": way == "crop", "pad_to_aspect_ratio": way == "pad"}
    return type(converter).from_config(converter.get_config() | ways)


def sha256(converter: Any) -> str:
    """Returns a digest of every setting of a converter."""
    config = {key: value for key, value in converter.get_config().items() if key != "name"}
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _of_kerashub(checkpoint: Checkpoint, where: str) -> Any:
    """Returns the preset's own converter, or the family's with scale 1/255 if it has none."""
    cls = checkpoint.family.image_converter
    if checkpoint.directory is not None:
        file = checkpoint.directory / "image_converter.json"
        if not file.is_file():
            return cls(scale=_RESCALE, dtype="float32")
        settings = read_json(file, where)
        check_objects(settings, cls, file, where)
        return cls.from_config(_normalized(dict(settings.get("config") or {}), file, where))
    try:
        return cls.from_preset(checkpoint.preset, dtype="float32")
    except FileNotFoundError:
        return cls(scale=_RESCALE, dtype="float32")


def _normalized(config: dict[str, Any], file: Path, where: str) -> dict[str, Any]:
    """Returns the settings of a preset's converter in the terms of the current class.

    In KerasHub 0.19 to 0.21 the converters of ViT and DeiT had a second step after scale and
    offset, (pixel − norm_mean) / norm_std. Both steps are combined into one scale and one offset.
    """
    config["dtype"] = "float32"
    if "norm_mean" not in config and "norm_std" not in config:
        return config
    mean = _three(config.pop("norm_mean", None) or 0.0, "norm_mean", file, where)
    std = _three(config.pop("norm_std", None) or 1.0, "norm_std", file, where)
    if 0.0 in std:
        raise _wrong(where, file.name, "norm_std other than 0", std)
    scale = _three(config.get("scale") or 1.0, "scale", file, where)
    offset = _three(config.get("offset") or 0.0, "offset", file, where)
    config["scale"] = [a / s for a, s in zip(scale, std, strict=True)]
    config["offset"] = [(b - m) / s for b, m, s in zip(offset, mean, std, strict=True)]
    return config


def _three(value: Any, key: str, file: Path, where: str) -> list[float]:
    try:
        numbers = _channels(value)
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3:
        raise _wrong(where, file.name, f"{key} as one number or one number per channel", value)
    return numbers


def _of_hugging_face(checkpoint: Checkpoint, where: str) -> tuple[dict[str, Any], float]:
    file = Path(checkpoint.preset) / "preprocessor_config.json"
    config = read_json(file, where)
    rescale = config.get("rescale_factor", _RESCALE) if config.get("do_rescale", True) else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if config.get("do_normalize", True):
        lacks = [key for key in ("image_mean", "image_std") if not config.get(key)]
        if lacks:
            raise _wrong(
                where, file.name, "image_mean and image_std", f"no {' and no '.join(lacks)}"
            )
        mean, std = _channels(config["image_mean"]), _channels(config["image_std"])
    resample = config.get("resample", 2)
    if resample not in _RESAMPLE:
        known = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE.items())
        raise _wrong(where, file.name, f"a resample that Keras supports: {known}", resample)
    resized, whole = _pixels(config.get("size"))
    crop = config.get("do_center_crop", False)
    size, _ = _pixels(config.get("crop_size")) if crop else (resized, whole)
    settings = {
        "image_size": size or resized,
        "scale": [rescale / deviation for deviation in std],
        "offset": [-m / s for m, s in zip(mean, std, strict=True)],
        "interpolation": _RESAMPLE[resample],
        "crop_to_aspect_ratio": not whole,
    }
    return settings, size[0] / resized[0] if size and resized else 1.0


def _pixels(size: Any) -> tuple[tuple[int, int] | None, bool]:
    """Returns the (height, width) of any form of `size`, and whether it changes proportions.

    A mapping with height and width, or a single number, stretches the image; a shortest edge keeps
    its aspect ratio.
    """
    if isinstance(size, int):
        return (size, size), True
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return (int(size["shortest_edge"]), int(size["shortest_edge"])), False
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return (int(size["height"]), int(size["width"])), True
    return None, True


def _of_timm(config: Mapping[str, Any], where: str) -> tuple[dict[str, Any], float]:
    given = config.get("pretrained_cfg") or {}
    chosen = {key: given.get(key) or value for key, value in _TIMM_DEFAULTS.items()}
    if chosen["interpolation"] not in _TIMM_NAMES:
        expected = f"an interpolation that Keras supports: {', '.join(_TIMM_NAMES)}"
        raise _wrong(where, "config.json", expected, chosen["interpolation"])
    mean, std = _channels(chosen["mean"]), _channels(chosen["std"])
    settings = {
        "image_size": tuple(chosen["input_size"][1:]),
        "scale": [_RESCALE / deviation for deviation in std],
        "offset": [-m / s for m, s in zip(mean, std, strict=True)],
        "interpolation": _TIMM_NAMES[chosen["interpolation"]],
        "crop_to_aspect_ratio": given.get("crop_mode", "center") != "squash",
    }
    return settings, float(chosen["crop_pct"])


def _channels(value: float | Sequence[float]) -> list[float]:
    """Returns one number for each of the three channels."""
    if isinstance(value, int | float):
        return [float(value)] * 3
    return [float(number) for number in value]


def _wrong(where: str, file: str, expected: str, found: Any) -> ConfigError:
    return ConfigError(
        f"{where} must contain a {file} with {expected}. Received: {found}. "
        "Copy the file from the publisher of the model, or edit it."
    )

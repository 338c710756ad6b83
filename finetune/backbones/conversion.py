"""Building of a backbone from a checkpoint by KerasHub's converters, and repair of their omissions.

For Hugging Face directories the converters drop settings that the constructor would take, expect
the weights of some families under a prefix that files of the bare model do not have, and omit one
table of RoBERTa. Each omission is repaired here, and variants that KerasHub would compute
differently are refused. Settings that KerasHub's EfficientNet leaves out of its config are added,
so that a saved model equals the trained one.
"""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from finetune.backbones.coverage import Coverage, coverage_of, shown
from finetune.backbones.directories import HUGGING_FACE, KERASHUB, TIMM, Checkpoint
from finetune.backbones.tensors import AbsentTensorError, Tensors
from finetune.errors import ConfigError
from finetune.keras_internals import assignments, load_preset_weights, preset_loader

# Exact and approximate: KerasHub uses its own for all, which differs by at most 1e-3.
_GELU = ("gelu", "gelu_new", "gelu_python", "gelu_fast", "gelu_pytorch_tanh")
_TOKEN_TYPES = "roberta.embeddings.token_type_embeddings.weight"


def load_backbone(
    checkpoint: Checkpoint, load_weights: bool, arguments: dict[str, Any], where: str
) -> tuple[keras.Model, Coverage]:
    """Builds a backbone and loads the checkpoint's weights if `load_weights` is True.

    A head in the checkpoint is ignored.

    Args:
        checkpoint: Checkpoint to load.
        load_weights: Whether to load the weights; False draws random ones.
        arguments: Constructor arguments that replace the checkpoint's own, e.g. an image shape.
        where: Config path that names the checkpoint, for messages.

    Returns:
        The backbone, and which of its weights came from the checkpoint: all of them except those
        that some heads do not need (see `Family.optional`).

    Raises:
        ConfigError: If KerasHub would compute the variant differently, or weights are missing.
        ValueError: From KerasHub, e.g. if an image shape does not fit.
    """
    family, config = checkpoint.family, checkpoint.config
    left_out: dict[str, Any] = {}
    if checkpoint.format == HUGGING_FACE:
        _refuse_variants(checkpoint, where)
        left_out = {key: config[named] for key, named in family.left_out if named in config}
    backbone = family.backbone.from_preset(
        checkpoint.preset, load_weights=False, **left_out, **arguments
    )
    if family.name == "efficientnet" and checkpoint.format != HUGGING_FACE:
        _complete_config(backbone)
    if not load_weights:
        return backbone, coverage_of(backbone, ())
    with assignments() as assigned:
        reason = _fill(backbone, checkpoint)
    coverage = coverage_of(backbone, assigned)
    if reason is not None and arguments:
        raise ValueError(reason)  # the caller knows which arguments it passed
    unneeded = (*family.optional, *family.untrainable)
    needed = [p for p in coverage.absent if not any(name in p.split("/") for name in unneeded)]
    if needed or reason is not None:
        said = "" if reason is None else f" ({reason})"
        raise ConfigError(
            f"{where} must contain every weight of the backbone. Received: {checkpoint.preset}, from "
            f"which {coverage.loaded} of {coverage.total} weights were loaded; it lacks "
            f"{shown(needed or coverage.absent)}{said}. Copy the model again from its publisher, or "
            "set backbone.load_weights=false to draw all weights at random."
        )
    broken = [weight.path for weight in backbone.weights if not _is_finite(weight)]
    if broken:
        raise ConfigError(
            f"{where} must contain finite weights. Received: {checkpoint.preset} with NaN or infinity "
            f"in {shown(broken)}. Copy the model again from its publisher. Large weights also "
            "overflow when they are converted to half precision."
        )
    return backbone, coverage


def _is_finite(weight: Any) -> bool:
    value: Any = keras.ops.convert_to_numpy(weight.value)
    return bool(np.isfinite(np.asarray(value, "float32")).all())


def _fill(backbone: Any, checkpoint: Checkpoint) -> str | None:
    """Reads the weights of a checkpoint; returns why some could not be read, or None."""
    loader: Any = preset_loader(checkpoint.preset)
    if checkpoint.format == KERASHUB:
        with warnings.catch_warnings():
            # About layers that a file does not have; the coverage names their weights.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            try:
                load_preset_weights(loader, backbone)
            except ValueError as error:  # raised after all matching weights are loaded
                return _reason(error)
        return None
    directory, prefix = Path(checkpoint.preset), checkpoint.family.prefix
    with Tensors(directory, prefix, exact=checkpoint.format == TIMM) as tensors:
        try:
            loader.converter.convert_weights(backbone, tensors, checkpoint.config)
            if checkpoint.family.name == "roberta":
                _add_token_type(backbone, tensors)
        except AbsentTensorError as error:
            return f"no tensor {error}"
    return None


def _reason(error: ValueError) -> str:
    """Returns Keras' message about the first layer that it could not load, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("A total of") else lines[0]


def _complete_config(backbone: Any) -> None:
    """Adds the stages without residuals and the width of the top to an EfficientNet's config.

    KerasHub 0.32 takes both arguments but does not serialize them, so that the model would change
    when it is loaded again.
    """
    blocks = {layer.name: layer for layer in backbone.layers}
    stages = range(1, len(backbone.stackwise_num_repeats) + 1)
    without = [bool(getattr(blocks.get(f"block{n}a_"), "nores", False)) for n in stages]
    width = backbone.stackwise_width_coefficients[-1]
    left_out = {
        "stackwise_nores_option": without,
        "num_features": round(
            blocks["top_conv"].filters / width
        ),  # the constructor multiplies it by the width
    }
    described = backbone.get_config
    backbone.get_config = lambda: {**described(), **left_out}


def _refuse_variants(checkpoint: Checkpoint, where: str) -> None:
    config = checkpoint.config
    expected = {"position_embedding_type": ("absolute",)}
    if checkpoint.family.name != "dinov3":  # its converter follows hidden_act
        expected |= {"hidden_act": _GELU, "activation": _GELU}
    for key, valid in expected.items():
        if config.get(key) is not None and config[key] not in valid:
            raise ConfigError(
                f"{where} must contain a config.json whose {key} is one that KerasHub supports: "
                f"{', '.join(valid)}. Received: {config[key]}. Use another checkpoint."
            )


def _add_token_type(backbone: Any, tensors: Tensors) -> None:
    """Adds RoBERTa's single token type to its positions, as it applies to every token."""
    positions = backbone.embeddings.position_embedding.position_embeddings
    positions.assign(positions + tensors.get_tensor(_TOKEN_TYPES)[0])

"""Builds a backbone from a checkpoint: KerasHub's converters, and what they leave out.

Of Hugging Face directories they drop settings that the constructor would take, expect the weights
of some families under a prefix that files of the bare model do not have, and forget one table of
RoBERTa. Each is put right here, and refused where KerasHub computes something else. What its
EfficientNet leaves out of its own config is put back, so that a saved model is the one that trained.
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

# Exact and approximate: KerasHub takes its own for all of them, 1e-3 apart at most.
_GELU = ("gelu", "gelu_new", "gelu_python", "gelu_fast", "gelu_pytorch_tanh")
_TOKEN_TYPES = "roberta.embeddings.token_type_embeddings.weight"


def load_backbone(
    checkpoint: Checkpoint, load_weights: bool, arguments: dict[str, Any], where: str
) -> tuple[keras.Model, Coverage]:
    """Returns the backbone, built, with the checkpoint's weights where they are asked for.

    A head that the checkpoint has is left there.

    Args:
        checkpoint: what to load.
        load_weights: False draws random weights.
        arguments: of the constructor, instead of the checkpoint's own, e.g. an image shape.
        where: the config path that names the checkpoint, for messages.

    Returns:
        The backbone, and which of its weights came from the checkpoint: all of them but those that
        some heads do not need (see `Family.optional`).

    Raises:
        ConfigError: for a variant that KerasHub would compute differently, or weights that are not
            in the checkpoint.
        ValueError: from KerasHub, e.g. for an image shape that does not fit.
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
        raise ValueError(reason)  # the caller knows what it asked for
    unneeded = (*family.optional, *family.untrainable)
    needed = [p for p in coverage.absent if not any(name in p.split("/") for name in unneeded)]
    if needed or reason is not None:
        said = "" if reason is None else f" ({reason})"
        raise ConfigError(
            f"{where} must hold every weight of the backbone. Received: {checkpoint.preset}, from "
            f"which {coverage.loaded} of {coverage.total} weights were loaded; it lacks "
            f"{shown(needed or coverage.absent)}{said}. Copy the model again from where it was "
            "published, or set backbone.load_weights=false to draw all weights at random."
        )
    broken = [weight.path for weight in backbone.weights if not _is_finite(weight)]
    if broken:
        raise ConfigError(
            f"{where} must hold finite weights. Received: {checkpoint.preset} with NaN or infinity in "
            f"{shown(broken)}. Copy the model again from where it was published; a conversion to half "
            "precision also does this to large weights."
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
            # Of layers that a file does not have; the coverage names their weights.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            try:
                load_preset_weights(loader, backbone)
            except ValueError as error:  # raised once all that fits is loaded
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
    """Returns what Keras says of the first layer that it could not load, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("A total of") else lines[0]


def _complete_config(backbone: Any) -> None:
    """Lets an EfficientNet say which stages have no residuals, and how wide its top is.

    KerasHub 0.32 takes both and serializes neither: read again, such a model is another one.
    """
    blocks = {layer.name: layer for layer in backbone.layers}
    stages = range(1, len(backbone.stackwise_num_repeats) + 1)
    without = [bool(getattr(blocks.get(f"block{n}a_"), "nores", False)) for n in stages]
    width = backbone.stackwise_width_coefficients[-1]
    left_out = {
        "stackwise_nores_option": without,
        "num_features": round(blocks["top_conv"].filters / width),  # they are multiplied by it
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
                f"{where} must hold a config.json whose {key} is one that KerasHub computes: "
                f"{', '.join(valid)}. Received: {config[key]}. Use another checkpoint."
            )


def _add_token_type(backbone: Any, tensors: Tensors) -> None:
    """Adds RoBERTa's one token type to its positions, as it is added to every token."""
    positions = backbone.embeddings.position_embedding.position_embeddings
    positions.assign(positions + tensors.get_tensor(_TOKEN_TYPES)[0])

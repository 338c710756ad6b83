"""The repeated blocks of KerasHub backbones, by family: KerasHub 0.32 has no such API."""

import re
from dataclasses import dataclass
from typing import Any

import keras
import keras_hub

from finetune.backbones.layer_kinds import is_normalization
from finetune.keras_internals import direct_layers, direct_weights

_BY_NAME = (  # group 1 is the number of the stage
    re.compile(r"(?:stack|transition)(\d+)_"),  # ResNet v1 and v2, DenseNet
    re.compile(r"block(\d+)(?!\d)"),  # EfficientNet, Xception, VGG
    re.compile(r"block_(\d+)_\d+$"),  # MobileNet
    re.compile(r"stage_(\d+)(?:_|$)"),  # CSPNet, Swin
    re.compile(r"(?:patch_and_embed|hierarchical_encoder)_(\d+)"),  # MiT
)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The layers of a backbone, grouped into the stages of its family.

    Args:
        first: Name of the stage before the first block.
        stage: Name of the stages in `groups`, without their number.
        layers: All layers of the backbone, from input to output. Layers that hold the blocks are
            replaced by the layers inside them.
        groups: The layers of each stage, from input to output, except the first and the last stage.
    """

    first: str
    stage: str
    layers: list[keras.Layer]
    groups: list[list[keras.Layer]]


def find_blocks(backbone: keras.Model) -> Blocks | None:
    """Returns the blocks of a backbone of a known family, or None for any other."""
    layers = list(backbone.layers)
    for index, layer in enumerate(layers):
        found = _held_blocks(backbone, layer)
        if found is not None:
            first, stage, blocks = found
            layers[index : index + 1] = _apart(layer, blocks)
            return Blocks(first, stage, layers, [[block] for block in blocks])
    if isinstance(backbone, keras_hub.models.AlbertBackbone):  # one list of layers per group
        groups = [_layer_list(owner) for owner in backbone.transformer_layers]
        return Blocks("embeddings", "block", layers, groups)
    transformer = _layer_list(getattr(backbone, "transformer_layers", None))
    if transformer and all(
        any(candidate is layer for layer in layers) for candidate in transformer
    ):
        return Blocks("embeddings", "block", layers, [[candidate] for candidate in transformer])
    if isinstance(backbone, keras_hub.models.MobileNetV5Backbone):
        groups = _in_turn(layers, backbone.stackwise_num_blocks)
    else:
        groups = _by_name(layers)
    return Blocks("stem", "stage", layers, groups) if groups else None


def _held_blocks(
    backbone: keras.Model, layer: keras.Layer
) -> tuple[str, str, list[keras.Layer]] | None:
    """Returns the names and blocks of a layer that only runs a list of blocks."""
    if hasattr(layer, "encoder_layers"):  # ViT, DeiT
        first, stage, attribute = "embeddings", "block", "encoder_layers"
    elif layer is getattr(backbone, "encoder", None):  # DINO
        first, stage, attribute = "embeddings", "block", "layers"
    else:  # HGNetV2
        first, stage, attribute = "stem", "stage", "stages_list"
    blocks = _layer_list(getattr(layer, attribute, None))
    others = [
        inner for inner in direct_layers(layer) if all(inner is not block for block in blocks)
    ]
    weighted = [inner for inner in others if inner.weights and not is_normalization(inner)]
    own = direct_weights(layer)
    return None if own or weighted or not blocks else (first, stage, blocks)


def _layer_list(value: Any) -> list[keras.Layer]:
    """Returns a list of layers; empty if the attribute of a user's model is anything else."""
    layers = list(value) if isinstance(value, list) else []
    return layers if all(isinstance(layer, keras.Layer) for layer in layers) else []


def _apart(layer: keras.Layer, blocks: list[keras.Layer]) -> list[keras.Layer]:
    """Returns the layers inside one that runs `blocks`, in order: dropout, blocks, final norm."""
    others = [
        inner for inner in direct_layers(layer) if all(inner is not block for block in blocks)
    ]
    first = [inner for inner in others if not inner.weights]
    return [*first, *blocks, *(inner for inner in others if inner.weights)]


def _in_turn(layers: list[keras.Layer], numbers: list[int]) -> list[list[keras.Layer]]:
    """Groups MobileNetV5's blocks, whose names depend on what the process built before."""
    blocks = [
        layer for layer in layers if layer.weights and layer.name not in ("conv_stem", "msfa")
    ]
    ends = [sum(numbers[: index + 1]) for index in range(len(numbers))]
    return [blocks[end - number : end] for number, end in zip(numbers, ends, strict=True)]


def _by_name(layers: list[keras.Layer]) -> list[list[keras.Layer]]:
    """Groups layers by the first pattern that matches any name; empty if none does."""
    for pattern in _BY_NAME:
        groups: dict[str, list[keras.Layer]] = {}
        for layer in layers:
            if match := pattern.match(layer.name):
                groups.setdefault(match[1], []).append(layer)
        if groups:
            return list(groups.values())
    return []

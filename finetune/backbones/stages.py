"""Splits a backbone into ordered stages: the units that a schedule freezes and unfreezes.

KerasHub has no uniform stage API, so each family is known by the names of its top-level layers;
any other functional model is split where the spatial resolution of its weighted layers drops.
"""

import re
from collections import Counter
from dataclasses import dataclass

import keras

from finetune.errors import FinetuneError

# Families by the top-level layer names of keras_hub 0.32; group 1 tells one stage from the next.
_FAMILIES = (
    re.compile(r"(?:stack|transition)(\d+)_"),  # ResNet v1 and v2, DenseNet
    re.compile(r"block(\d+)(?!\d)"),  # EfficientNet, Xception, VGG
    re.compile(r"block_(\d+)_\d+$"),  # MobileNet
    re.compile(r"stage_(\d+)$"),  # Swin
    re.compile(r"(?:patch_and_embed|hierarchical_encoder)_(\d+)"),  # MiT
)
_NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)
_STEM, _TOP = "stem", "top"
_Groups = list[tuple[str, list[keras.Layer]]]


@dataclass(frozen=True, eq=False)
class Stage:
    """An ordered group of top-level backbone layers, weightless ones included."""

    name: str
    layers: tuple[keras.Layer, ...]

    @property
    def weights(self) -> list[keras.Variable]:
        """Every weight of the stage, BatchNorm statistics included."""
        return [weight for layer in self.layers for weight in layer.weights]


def stages(backbone: keras.Model) -> tuple[Stage, ...]:
    """Splits `backbone` into stages from input to output, without touching it.

    Args:
        backbone: a functional model, built.

    Returns:
        ``stem`` (where weighted layers precede the first block), ``stage1``…, and ``top`` (where
        weighted layers other than a norm follow the last block). Every layer of the backbone is
        in exactly one stage, and every stage has weights. A layer that holds a list of blocks
        (the encoder of a ViT) stands for them: its blocks and its other layers are in stages.

    Raises:
        FinetuneError: if a weight is in no stage or in two.
    """
    layers = [part for layer in backbone.layers for part in _unnested(layer)]
    groups = _by_name(layers) or _by_resolution(layers, _channels_first(backbone))
    merged = _without_empty(_top_norm_joined(groups))
    numbered: list[Stage] = []
    for name, members in merged:
        if name not in (_STEM, _TOP):
            name = f"stage{1 + sum(each.name.startswith('stage') for each in numbered)}"
        numbered.append(Stage(name, tuple(members)))
    _check_total(backbone, numbered)
    return tuple(numbered)


def _unnested(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers inside one that only runs a list of blocks, in order, or the layer."""
    blocks = getattr(layer, "encoder_layers", None)
    inner = list(layer._layers)
    if not blocks or layer._trainable_variables or layer._non_trainable_variables:
        return [layer]
    rest = [each for each in inner if all(each is not block for block in blocks)]
    norms = [each for each in rest if isinstance(each, _NORMS)]
    first = [each for each in rest if each not in norms]
    return [*first, *blocks, *norms]  # what precedes the blocks has no weights: dropout


def _by_name(layers: list[keras.Layer]) -> _Groups:
    """Groups by the first family whose names occur; an empty list where none does."""
    for pattern in _FAMILIES:
        found = [pattern.match(layer.name) for layer in layers]
        last = max((i for i, match in enumerate(found) if match), default=None)
        if last is None:
            continue
        groups: dict[str, list[keras.Layer]] = {}
        current = _STEM
        for index, (layer, match) in enumerate(zip(layers, found, strict=True)):
            if match:
                current = match[1]
            elif index > last and layer.weights:
                current = _TOP
            groups.setdefault(current, []).append(layer)
        return list(groups.items())
    return []


def _by_resolution(layers: list[keras.Layer], channels_first: bool) -> _Groups:
    """Groups by the area of the weighted layers' outputs, else one group per weighted layer."""
    weighted = [layer for layer in layers if layer.weights]
    areas = [_area(layer, channels_first) for layer in weighted]
    known = [index for index, area in enumerate(areas) if area is not None]
    # The largest area from here on: squeeze-and-excite layers (1×1) stay inside their block.
    levels = [max((a for a in areas[i:] if a is not None), default=None) for i in range(len(areas))]
    by_area = len({level for level in levels if level is not None}) >= 2
    names: dict[int, str] = {}
    for index, layer in enumerate(weighted):
        if not by_area:
            names[id(layer)] = str(index)
        else:
            names[id(layer)] = _TOP if index > known[-1] else str(levels[index])
    groups: dict[str, list[keras.Layer]] = {}
    current = names[id(weighted[0])] if weighted else _STEM
    for layer in layers:
        current = names.get(id(layer), current)
        groups.setdefault(current, []).append(layer)
    return list(groups.items())


def _channels_first(backbone: keras.Model) -> bool:
    data_format = getattr(backbone, "data_format", None) or keras.config.image_data_format()
    return data_format == "channels_first"


def _area(layer: keras.Layer, channels_first: bool) -> int | None:
    """Returns height × width of the layer's output, or None where it has no known ones."""
    try:
        shape = layer.output.shape  # type: ignore[union-attr] - a list has none, see below
    except (AttributeError, ValueError):  # never called, called twice, or several outputs
        return None
    if len(shape) != 4:
        return None
    height, width = shape[2:] if channels_first else shape[1:3]
    return None if height is None or width is None else height * width


def _top_norm_joined(groups: _Groups) -> _Groups:
    """Joins a last group that has only norms to the one before it."""
    if len(groups) > 1:
        weighted = [layer for layer in groups[-1][1] if layer.weights]
        if weighted and all(isinstance(layer, _NORMS) for layer in weighted):
            (name, members), (_, top) = groups[-2:]
            return [*groups[:-2], (name, members + top)]
    return groups


def _without_empty(groups: _Groups) -> _Groups:
    """Joins every group that has no weights to its neighbour below, the first one to that above."""
    kept: _Groups = []
    waiting: list[keras.Layer] = []
    for name, members in groups:
        if any(layer.weights for layer in members):
            kept.append((name, waiting + members))
            waiting = []
        elif kept:
            kept[-1][1].extend(members)
        else:
            waiting = waiting + members
    return kept


def _check_total(backbone: keras.Model, found: list[Stage]) -> None:
    times = Counter(id(weight) for stage in found for weight in stage.weights)
    wrong = [weight.path for weight in backbone.weights if times[id(weight)] != 1]
    if wrong:
        raise FinetuneError(
            f"backbone must have every weight in exactly one stage. Received: {backbone.name} with "
            f"{len(wrong)} weights in none or several ({', '.join(wrong[:5])}). Give it layers "
            "that own their weights alone."
        )

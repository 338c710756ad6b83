"""Splitting of a backbone into ordered stages, the units that a schedule freezes and unfreezes.

If `finetune.backbones.blocks` finds no blocks, a functional model is split where the spatial
resolution of its weighted layers drops.
"""

import itertools
from collections import Counter
from dataclasses import dataclass

import keras

from finetune.backbones.blocks import Blocks, find_blocks
from finetune.backbones.layer_kinds import is_normalization
from finetune.errors import FinetuneError
from finetune.keras_internals import nodes_of

_STEM, _TOP = "stem", "top"
_Groups = list[tuple[str, list[keras.Layer]]]


@dataclass(frozen=True, eq=False)
class Stage:
    """An ordered group of backbone layers, including those without weights.

    Args:
        name: Name that is unique in the backbone.
        layers: Layers from input to output.
        uses: Number of times that a forward pass runs the stage; above 1 in ALBERT, whose blocks
            share weights.
    """

    name: str
    layers: tuple[keras.Layer, ...]
    uses: int = 1

    @property
    def weights(self) -> list[keras.Variable]:
        """Every weight of the stage, BatchNorm statistics included."""
        return [weight for layer in self.layers for weight in layer.weights]


def stages(backbone: keras.Model) -> tuple[Stage, ...]:
    """Splits `backbone` into stages from input to output, without changing it.

    Args:
        backbone: Built functional model.

    Returns:
        ``stem`` (if weighted layers precede the first block), ``stage1``…, and ``top`` (if weighted
        layers other than a norm follow the last block); for transformers ``embeddings``,
        ``block1``… and ``top``. Every layer of the backbone is in exactly one stage, and every
        stage has weights. A layer that only runs a list of blocks (the encoder of a ViT) is
        replaced by its blocks and other layers.

    Raises:
        FinetuneError: If a weight is in no stage or in two.
    """
    blocks = find_blocks(backbone)
    if blocks is None:
        groups = _by_resolution(list(backbone.layers), _channels_first(backbone))
    else:
        groups = _by_blocks(blocks)
    uses = _uses(backbone)
    found = [
        Stage(name, tuple(members), max(uses.get(id(layer), 1) for layer in members))
        for name, members in _numbered(_without_empty(_top_norm_joined(groups)))
    ]
    _check_total(backbone, found)
    return tuple(found)


def _by_blocks(blocks: Blocks) -> _Groups:
    """Puts every layer into the stage of the last block before it, or into ``top``."""
    stage_of = {
        id(layer): f"{blocks.stage}{number}"
        for number, group in enumerate(blocks.groups, start=1)
        for layer in group
    }
    last = max(index for index, layer in enumerate(blocks.layers) if id(layer) in stage_of)
    groups: dict[str, list[keras.Layer]] = {}
    current = blocks.first
    for index, layer in enumerate(blocks.layers):
        if index > last and layer.weights:
            current = _TOP
        current = stage_of.get(id(layer), current)
        groups.setdefault(current, []).append(layer)
    return list(groups.items())


def _numbered(groups: _Groups) -> _Groups:
    """Numbers the stages of a model that belongs to no known family."""
    numbers = itertools.count(1)
    return [
        (f"stage{next(numbers)}" if name.isdecimal() else name, members) for name, members in groups
    ]


def _uses(backbone: keras.Model) -> Counter[int]:
    """Counts how often a forward pass calls each top-level layer, by `id`."""
    return Counter(id(node.operation) for node in nodes_of(backbone))


def _by_resolution(layers: list[keras.Layer], channels_first: bool) -> _Groups:
    """Groups by the area of the weighted layers' outputs, else one group per weighted layer."""
    weighted = [layer for layer in layers if layer.weights]
    areas = [_area(layer, channels_first) for layer in weighted]
    known = [index for index, area in enumerate(areas) if area is not None]
    # The largest area from here on keeps squeeze-and-excite layers (1×1) inside their block.
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
    """Returns height × width of the layer's output, or None if it is unknown."""
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
        if weighted and all(is_normalization(layer) for layer in weighted):
            (name, members), (_, top) = groups[-2:]
            return [*groups[:-2], (name, members + top)]
    return groups


def _without_empty(groups: _Groups) -> _Groups:
    """Joins each group without weights to the group below, or the first one to the group above."""
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
            f"{len(wrong)} weights in none or several ({', '.join(wrong[:5])}). Use layers that do "
            "not share weights."
        )

"""Every weight of a task model, listed once: its stage, its layer, and what it could do."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from finetune.errors import FinetuneError

HEAD = "head"
BIAS_NAMES = ("bias", "beta")


@dataclass(frozen=True)
class WeightInfo:
    """What policies may know of one weight; no Keras object in it.

    Args:
        path: unique name, Keras' own ``variable.path`` where that is unique.
        stage: name of its backbone stage, or ``head``.
        layer: index of its layer in `Inventory.layers`.
        parameters: number of scalars.
        can_train: False where its layer made it non-trainable (BatchNorm statistics, constants).
        is_bias: a bias, or the offset of a normalization layer.
        is_norm: it belongs to a normalization layer.
        uses: how often one forward pass runs its stage; above 1 where blocks share weights.
    """

    path: str
    stage: str
    layer: int
    parameters: int
    can_train: bool = True
    is_bias: bool = False
    is_norm: bool = False
    uses: int = 1


@dataclass(frozen=True)
class Inventory:
    """The live side: `infos` in model order, and the Keras objects they stand for."""

    model: keras.Model
    infos: tuple[WeightInfo, ...]
    variables: dict[str, Any]
    layers: tuple[keras.Layer, ...]
    layer_stages: tuple[str, ...]
    stage_names: tuple[str, ...]


def flatten(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yields `layer` and every layer inside it, parents before children, each once."""
    seen: set[int] = set()
    for each in layer._flatten_layers(include_self=True, recursive=True):
        if id(each) not in seen:
            seen.add(id(each))
            yield each


def is_normalization(layer: keras.Layer) -> bool:
    """Tells a normalization layer with learned scale or offset, of Keras or of its own kind."""
    name = type(layer).__name__
    return name.endswith(("Normalization", "Norm", "Norm2d"))


def take_inventory(
    model: keras.Model, stages: Sequence[Any], fixed: Collection[str] = ()
) -> Inventory:
    """Lists the weights of `model`; sets every weight that can train to ``trainable`` first.

    Args:
        model: the built task model.
        stages: backbone stages from input to output, each with `name`, `layers` and, where it is
            not 1, `uses`. What belongs to no stage is the head.
        fixed: names of weights that cannot be trained, whatever their layer says.

    Raises:
        FinetuneError: if a weight belongs to two stages.
    """
    thaw(model)
    stage_of: dict[int, str] = {}
    for stage in stages:
        for top in stage.layers:
            for layer in flatten(top):
                if stage_of.setdefault(id(layer), stage.name) != stage.name:
                    raise FinetuneError(
                        f"layer {layer.name} must be in one stage. Received: "
                        f"{stage_of[id(layer)]} and {stage.name}. A shared layer has no depth."
                    )
    layers = tuple(flatten(model))
    owners = {
        id(variable): index
        for index, layer in enumerate(layers)
        for variable in layer._trainable_variables + layer._non_trainable_variables
    }
    layer_stages = tuple(stage_of.get(id(layer), HEAD) for layer in layers)
    uses = {stage.name: getattr(stage, "uses", 1) for stage in stages}
    infos, variables = [], {}
    for variable in model.weights:
        index = owners[id(variable)]
        path = _unique(variable.path, layer_stages[index], variables)
        variables[path] = variable
        infos.append(
            WeightInfo(
                path=path,
                stage=layer_stages[index],
                layer=index,
                parameters=math.prod(variable.shape),
                can_train=bool(variable.trainable) and variable.name not in fixed,
                is_bias=variable.name in BIAS_NAMES,
                is_norm=is_normalization(layers[index]),
                uses=uses.get(layer_stages[index], 1),
            )
        )
    names = (*(stage.name for stage in stages), HEAD)
    return Inventory(model, tuple(infos), variables, layers, layer_stages, names)


def thaw(model: keras.Model) -> None:
    """Sets every flag as if nothing had ever been frozen.

    On TensorFlow assigning a flag the value it already has changes nothing below it, so each
    layer is set to False and then to True by itself.
    """
    for layer in flatten(model):
        layer.trainable = False
        layer.trainable = True


def _unique(path: str, stage: str, taken: dict[str, Any]) -> str:
    if path not in taken:
        return path
    candidate, number = f"{stage}/{path}", 2
    while candidate in taken:
        candidate, number = f"{stage}/{path}#{number}", number + 1
    return candidate


def to_numpy(variable: Any) -> np.ndarray:
    """Returns a copy of a Keras variable's value."""
    return np.array(as_array(variable))


def as_array(variable: Any) -> np.ndarray:
    """Returns a Keras variable's value as it is now, read-only, not copied where it is on a CPU."""
    tensor = variable.value.read_value()
    if tensor.dtype.name == "bfloat16":  # NumPy's buffers know no such type
        return tensor.numpy()
    return np.asarray(memoryview(tensor))

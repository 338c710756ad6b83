"""A list of every weight of a task model: its stage, its layer, and whether it can train."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from finetune.backbones import HEAD
from finetune.backbones.layer_kinds import augmentation_in, is_normalization
from finetune.errors import FinetuneError
from finetune.freezing.policy import WeightInfo
from finetune.freezing.upkeep import Upkeep, find_upkeep
from finetune.keras_internals import direct_weights, flatten, made_trainable

BIAS_NAMES = ("bias", "beta")


@dataclass(frozen=True)
class Inventory:
    """Descriptions of the weights of a task model, and the Keras objects that they describe.

    Args:
        model: Task model.
        infos: Descriptions of its weights, in model order.
        variables: Keras variables of the weights by path.
        layers: All layers of the model, including those inside other layers.
        layer_stages: Name of the stage of each layer.
        stage_names: Stages of the backbone from input to output, then the head.
        upkeep: What layers write to in their own call.
        augmentation: Indices of the layers that augment data; no phase holds them.
    """

    model: keras.Model
    infos: tuple[WeightInfo, ...]
    variables: dict[str, Any]
    layers: tuple[keras.Layer, ...]
    layer_stages: tuple[str, ...]
    stage_names: tuple[str, ...]
    upkeep: tuple[Upkeep, ...]
    augmentation: frozenset[int]


def take_inventory(
    model: keras.Model, stages: Sequence[Any], untrainable: Collection[str] = ()
) -> Inventory:
    """Lists the weights of `model`, after it sets every weight that can train to ``trainable``.

    Args:
        model: Built task model.
        stages: Backbone stages from input to output. A stage has a `name`, `layers` and, if a forward
            pass runs it more than once, `uses`. What belongs to no stage is the head.
        untrainable: Names of weights that cannot be trained, whatever their layer says.

    Raises:
        FinetuneError: If a weight belongs to two stages.
    """
    thaw(model, held_by_layers(model))
    stage_of = _stage_of(stages)
    layers = tuple(flatten(model))
    owners = {
        id(variable): index
        for index, layer in enumerate(layers)
        for variable in direct_weights(layer)
    }
    layer_stages = tuple(stage_of.get(id(layer), HEAD) for layer in layers)
    uses = {stage.name: getattr(stage, "uses", 1) for stage in stages}
    norms = {index for index, layer in enumerate(layers) if is_normalization(layer)}
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
                can_train=bool(variable.trainable) and variable.name not in untrainable,
                is_bias=variable.name in BIAS_NAMES,
                is_norm=index in norms,
                uses=uses.get(layer_stages[index], 1),
            )
        )
    names = (*(stage.name for stage in stages), HEAD)
    can_train = {info.path: info.can_train for info in infos}
    paths = {id(variable): path for path, variable in variables.items()}
    upkeep = find_upkeep(model, layers, layer_stages, paths, can_train.__getitem__)
    awake = augmentation_in(model)
    augmentation = frozenset(index for index, layer in enumerate(layers) if id(layer) in awake)
    return Inventory(
        model, tuple(infos), variables, layers, layer_stages, names, upkeep, augmentation
    )


def _stage_of(stages: Sequence[Any]) -> dict[int, str]:
    """Returns the name of the stage of every layer that is in one, by the layer's `id`."""
    stage_of: dict[int, str] = {}
    for stage in stages:
        for top in stage.layers:
            for layer in flatten(top):
                if stage_of.setdefault(id(layer), stage.name) != stage.name:
                    raise FinetuneError(
                        f"layer {layer.name} must be in one stage. Received: "
                        f"{stage_of[id(layer)]} and {stage.name}. A shared layer has no depth."
                    )
    return stage_of


def held_by_layers(model: keras.Model) -> frozenset[int]:
    """Finds the weights that their own layers hold, whatever the flag of the layer says.

    They are the kernels that LoRA adds to, and weights whose own flag is off while that of their
    layer is on. Quantised kernels and constants were never trainable.

    Returns:
        The `id` of these weights.
    """
    held = set()
    for layer in flatten(model):
        if getattr(layer, "lora_enabled", False):  # freezing and thawing the layer wakes it
            base = (getattr(layer, name, None) for name in ("_kernel", "_embeddings"))
            held.update(id(weight) for weight in base if weight is not None)
        if layer.trainable:
            held.update(id(weight) for weight in made_trainable(layer) if not weight.trainable)
    return frozenset(held)


def thaw(model: keras.Model, held: Collection[int] = ()) -> None:
    """Sets every flag as if nothing had ever been frozen, except for weights that layers hold.

    On TensorFlow, assigning a flag the value that it already has changes nothing below it, so every
    layer is set to False and then to True by itself.

    Args:
        model: Built model.
        held: The `id` of the weights that `held_by_layers` found.
    """
    for layer in flatten(model):
        layer.trainable = False
        layer.trainable = True
    for variable in model.weights:
        if id(variable) in held:
            variable.trainable = False


def _unique(path: str, stage: str, taken: dict[str, Any]) -> str:
    if path not in taken:
        return path
    candidate, number = f"{stage}/{path}", 2
    while candidate in taken:
        candidate, number = f"{stage}/{path}#{number}", number + 1
    return candidate


def to_numpy(variable: Any) -> np.ndarray:
    """Returns a copy of the value of a Keras variable."""
    return np.array(as_array(variable))


def as_array(variable: Any) -> np.ndarray:
    """Returns the current value of a Keras variable, read-only; on a CPU it is not copied."""
    tensor = variable.value.read_value()
    if tensor.dtype.name == "bfloat16":  # NumPy's buffers know no such type
        return tensor.numpy()
    return np.asarray(memoryview(tensor))

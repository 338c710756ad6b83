"""The weights that layers write to by themselves while a model trains, such as moving statistics.

For the layers of Keras and KerasHub these are known. For layers of other classes, the model is traced
once in each mode, in a scope in which nothing is really assigned, to see what they write to.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from finetune.backbones.layer_kinds import CALL_FAILS, is_of_library, takes_training
from finetune.keras_internals import (
    flatten,
    functional_of,
    graph_of,
    input_structure,
    made_untrainable,
)


@dataclass(frozen=True)
class Upkeep:
    """Describes what the call of one layer writes to in training; holds no Keras object.

    Args:
        layer: Index of the layer in `Inventory.layers`.
        name: Name of the layer, for messages.
        stage: Name of the stage of the layer.
        writes: Paths of the weights that the layer writes to.
        learns: Paths of the weights in the layer that can train.
        of_data: Whether the written values depend on the inputs, as BatchNorm's statistics do; the
            norm that SpectralNormalization estimates depends on a kernel alone.
        always: Whether the layer writes in inference mode too, so that nothing can hold it.
    """

    layer: int
    name: str
    stage: str
    writes: tuple[str, ...]
    learns: tuple[str, ...] = ()
    of_data: bool = True
    always: bool = False


@dataclass
class _Writes:
    """Variables that one layer writes to, by `id`, and whether the values depend on the inputs."""

    of_data: dict[int, bool]
    always: bool = False


def find_upkeep(
    model: keras.Model,
    layers: Sequence[keras.Layer],
    stages: Sequence[str],
    paths: Mapping[int, str],
    can_train: Callable[[str], bool],
) -> tuple[Upkeep, ...]:
    """Finds the layers that write to weights in their own call.

    Args:
        model: Built model in which every weight that can train is trainable.
        layers: All layers of the model.
        stages: Name of the stage of each layer.
        paths: Paths of the model's weights, by the `id` of the weight.
        can_train: Function that tells whether the weight at a path can train.
    """
    found = {index: _known(layer) for index, layer in enumerate(layers) if is_of_library(layer)}
    own = {index: layer for index, layer in enumerate(layers) if index not in found}
    if any(layer.weights and functional_of(layer) is None for layer in own.values()):
        try:
            found |= _watched(model, own)
        except CALL_FAILS:  # any weight that they do not train may be a statistic
            found |= {index: _kept(layer) for index, layer in own.items()}
    made = []
    for index, writes in sorted(found.items()):
        written = {id_: data for id_, data in writes.of_data.items() if id_ in paths}
        if not written:
            continue
        inside = [id(weight) for layer in flatten(layers[index]) for weight in layer.weights]
        weights = [paths[id_] for id_ in dict.fromkeys(inside) if id_ in paths]
        made.append(
            Upkeep(
                layer=index,
                name=layers[index].name,
                stage=stages[index],
                writes=tuple(paths[id_] for id_ in written),
                learns=tuple(path for path in weights if can_train(path)),
                of_data=any(written.values()),
                always=writes.always,
            )
        )
    return tuple(made)


def _known(layer: keras.Layer) -> _Writes:
    """Returns what a layer of one of Keras' own classes writes to."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return _kept(layer)
    if isinstance(layer, keras.layers.SpectralNormalization):
        return _Writes({id(layer.kernel): False, id(layer.vector_u): False})
    return _Writes({})


def _kept(layer: keras.Layer) -> _Writes:
    return _Writes({id(weight): True for weight in made_untrainable(layer)})


def _watched(model: keras.Model, layers: Mapping[int, keras.Layer]) -> dict[int, _Writes]:
    """Returns what each of `layers` writes to, by the index of the layer."""
    training = _traced(model, layers, training=True)
    inference = _traced(model, layers, training=False) if training else {}
    return {
        index: _Writes(written, always=bool(inference.get(index)))
        for index, written in training.items()
        if index in layers
    }


def _traced(
    model: Any, layers: Mapping[int, keras.Layer], training: bool
) -> dict[int, dict[int, bool]]:
    """Traces a model once and returns what each layer writes to.

    Returns:
        Index of a layer -> `id` of a variable -> whether the written value depends on the inputs.
    """
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in graph_of(model).inputs]
    found: dict[int, dict[int, bool]] = {}

    def run(*inputs: tf.Tensor) -> tf.Tensor:
        given = keras.tree.pack_sequence_as(input_structure(model), list(inputs))
        with ExitStack() as stack:
            scope = stack.enter_context(keras.StatelessScope())
            writers = stack.enter_context(_noted(model, layers, scope))
            model(given, training=training)
        for variable in model.weights:
            index = writers.get(id(variable))
            if index is not None:
                depends = _depends(scope.get_current_value(variable), inputs)
                found.setdefault(index, {})[id(variable)] = depends
        return tf.constant(0)

    tf.function(run).get_concrete_function(*specs)
    return found


@contextmanager
def _noted(
    model: keras.Model, layers: Mapping[int, keras.Layer], scope: keras.StatelessScope
) -> Iterator[dict[int, int]]:
    """Yields which of `layers` writes to each variable, by `id`; a run of the model fills it.

    Inside the block, ``call`` of these layers and of Keras' own layers that write is replaced.
    """
    writers: dict[int, int] = {}
    variables = model.weights
    watched = dict(layers) | {
        -1 - number: layer
        for number, layer in enumerate(flatten(model))
        if is_of_library(layer) and _known(layer).of_data
    }

    def watch(index: int, layer: keras.Layer) -> Callable[..., Any]:
        call = layer.call

        @functools.wraps(call)
        def noting(*args: Any, **kwargs: Any) -> Any:
            before = {id(weight): scope.get_current_value(weight) for weight in variables}
            result = call(*args, **kwargs)
            for weight in variables:
                if scope.get_current_value(weight) is not before[id(weight)]:
                    # A layer inside this one was noted first and stays, if its call takes a mode.
                    known = watched.get(writers.get(id(weight), index), layer)
                    better = takes_training(layer) and not takes_training(known)
                    if id(weight) not in writers or better:
                        writers[id(weight)] = index
            return result

        return noting

    chosen = [(index, layer) for index, layer in watched.items() if layer is not model]
    try:
        for index, layer in chosen:
            layer.call = watch(index, layer)
        yield writers
    finally:
        for _, layer in chosen:
            layer.__dict__.pop("call", None)


def _depends(value: Any, inputs: Sequence[tf.Tensor]) -> bool:
    """Tells whether a traced value depends on `inputs`; a value of another graph counts as if it did."""
    wanted, seen = {id(tensor) for tensor in inputs}, set()
    waiting = [tf.convert_to_tensor(value)]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in wanted or getattr(tensor, "graph", None) is not inputs[0].graph:
            return True
        if id(tensor) not in seen:
            seen.add(id(tensor))
            waiting.extend(tensor.op.inputs)
    return False

"""What layers write to by themselves while a model trains: moving statistics and the like.

Of the layers of Keras and KerasHub this is known. A layer of another class is watched: the model is
traced once in each mode, in a scope in which nothing is assigned for real.
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
    """What the call of one layer writes to in training; no Keras object in it.

    Args:
        layer: index in `Inventory.layers`.
        name: of the layer, for messages.
        stage: of the layer.
        writes: paths of the weights that it writes to.
        learns: paths of the weights in the layer that can train.
        of_data: whether what it writes depends on its inputs, as BatchNorm's statistics do; the
            norm that SpectralNormalization estimates depends on a kernel alone.
        always: whether it writes in inference mode too, so that nothing can hold it.
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
    """Variables that one layer writes to, by `id`, and whether the inputs decide what."""

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
        model: built; whatever can train is trainable.
        layers: all of the model.
        stages: the stage of each layer.
        paths: of the weights of the model, by `id`.
        can_train: tells of a path whether its weight can train.
    """
    found = {index: _known(layer) for index, layer in enumerate(layers) if is_of_library(layer)}
    own = {index: layer for index, layer in enumerate(layers) if index not in found}
    if any(layer.weights and functional_of(layer) is None for layer in own.values()):
        try:
            found |= _watched(model, own)
        except CALL_FAILS:  # whatever they keep may be a statistic
            found |= {index: _kept(layer) for index, layer in own.items()}
    made = []
    for index, writes in sorted(found.items()):
        written = {id_: data for id_, data in writes.of_data.items() if id_ in paths}
        if not written:
            continue
        inside = [id(weight) for layer in flatten(layers[index]) for weight in layer.weights]
        weights = [paths[each] for each in dict.fromkeys(inside) if each in paths]
        made.append(
            Upkeep(
                layer=index,
                name=layers[index].name,
                stage=stages[index],
                writes=tuple(paths[each] for each in written),
                learns=tuple(path for path in weights if can_train(path)),
                of_data=any(written.values()),
                always=writes.always,
            )
        )
    return tuple(made)


def _known(layer: keras.Layer) -> _Writes:
    """Returns what a layer of Keras' own classes writes to."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return _kept(layer)
    if isinstance(layer, keras.layers.SpectralNormalization):
        return _Writes({id(layer.kernel): False, id(layer.vector_u): False})
    return _Writes({})


def _kept(layer: keras.Layer) -> _Writes:
    return _Writes({id(each): True for each in made_untrainable(layer)})


def _watched(model: keras.Model, layers: Mapping[int, keras.Layer]) -> dict[int, _Writes]:
    """Returns what each of `layers` writes to, by its index."""
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
    """Traces a model once: index of a layer -> `id` of a variable -> whether the inputs decide."""
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in graph_of(model).inputs]
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
    """Yields which of `layers` writes to each variable, by `id`; filled while the model runs.

    Replaces ``call`` of these layers meanwhile, and of those of Keras that write.
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
            before = {id(each): scope.get_current_value(each) for each in variables}
            result = call(*args, **kwargs)
            for each in variables:
                if scope.get_current_value(each) is not before[id(each)]:
                    # What is inside has been noted before, and is held if it can be told to.
                    known = watched.get(writers.get(id(each), index), layer)
                    better = takes_training(layer) and not takes_training(known)
                    if id(each) not in writers or better:
                        writers[id(each)] = index
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
    """Tells whether a traced value is made of `inputs`; one of another graph is taken to be."""
    wanted, seen = {id(each) for each in inputs}, set()
    waiting = [tf.convert_to_tensor(value)]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in wanted or getattr(tensor, "graph", None) is not inputs[0].graph:
            return True
        if id(tensor) not in seen:
            seen.add(id(tensor))
            waiting.extend(tensor.op.inputs)
    return False

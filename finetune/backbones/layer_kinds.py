"""The kind of a Keras layer, determined by its class and behaviour, never by its name."""

import inspect
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.keras_internals import (
    direct_layers,
    flatten,
    functional_of,
    is_image_preprocessing,
    made_trainable,
    nodes_of,
)

_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
_REGULARIZERS = (
    keras.layers.Dropout,  # and its subclasses, the spatial ones
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
_FACTOR = 1024.0  # a power of two, so that scaling is exact
CALL_FAILS = (  # errors of a layer that is called on inputs it was not made for
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    LookupError,
    NotImplementedError,
    tf.errors.OpError,
)


def takes_training(layer: keras.Layer) -> bool:
    """Returns whether the layer's call takes a `training` argument."""
    return "training" in inspect.signature(layer.call).parameters


def is_of_library(layer: keras.Layer) -> bool:
    """Returns whether the class is one of Keras or KerasHub, and not derived from one."""
    return type(layer).__module__.partition(".")[0] in ("keras", "keras_hub")


def is_normalization(layer: keras.Layer) -> bool:
    """Returns whether the layer normalizes its input.

    This is true for normalization layers of Keras and their subclasses, and for layers of other
    classes, such as KerasHub's own, that learn only gains and offsets and whose output does not
    depend on the scale of the input.
    """
    if isinstance(layer, _NORMALIZATIONS):
        return True
    learned = made_trainable(layer)
    vectors = all(math.prod(weight.shape) == max(weight.shape, default=1) for weight in learned)
    if type(layer).__module__.partition(".")[0] == "keras" or direct_layers(layer):
        return False
    return bool(learned) and vectors and _ignores_scale(layer)


def _ignores_scale(layer: keras.Layer) -> bool:
    """Returns whether a layer's output is the same for an input and a large multiple of it."""
    config = layer.get_build_config() or {}
    shape = config.get("input_shape")
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int | None) for n in shape):
        return False
    random = np.random.default_rng(0)
    first, second = (random.normal(size=[n or 2 for n in shape]) for _ in range(2))
    # Gains may start at zero, which would hide the difference.
    ones: Any = [(weight, tf.ones(weight.shape, weight.dtype)) for weight in made_trainable(layer)]
    given = {"training": True} if takes_training(layer) else {}
    try:
        with keras.StatelessScope(state_mapping=ones):
            plain, large, other = (
                np.asarray(keras.ops.cast(layer(x.astype("float32"), **given), "float32"))
                for x in (first, first * _FACTOR, second)
            )
    except CALL_FAILS:  # it takes other inputs than one array of numbers
        return False
    same = np.allclose(plain, large, rtol=0.02, atol=0.02)
    return same and not np.allclose(plain, other, rtol=0.02, atol=0.02)


def is_augmentation(layer: keras.Layer) -> bool:
    """Returns whether the layer is a random image layer of Keras, or derived from one."""
    return is_image_preprocessing(layer) and not is_plain_preprocessing(layer)


def is_plain_preprocessing(layer: keras.Layer) -> bool:
    """Returns whether the layer is an image layer of Keras that works the same in each mode.

    Layers that resize, crop the centre or equalize take a `training` argument but draw no numbers.
    """
    draws = any(len(inner.variables) > len(inner.weights) for inner in flatten(layer))
    return is_image_preprocessing(layer) and is_of_library(layer) and not draws


def augmentation_in(model: keras.Model) -> frozenset[int]:
    """Finds the layers of a model that augment data, which belong to no pretrained part.

    They are Keras' augmentation layers, wherever they are; layers of other packages and of the user
    that take a `training` argument and work on data, before any trainable weight; and everything in
    the same weightless layer or model as one of these. Keras' regularization layers, such as
    dropout, do not count by themselves, except noise on the data.

    Args:
        model: Built model in which everything that can train is trainable.

    Returns:
        The `id` of each of these layers.
    """
    on_data: set[int] = set()
    functional = functional_of(model)
    if functional is not None:
        _walk(functional, [False] * len(functional.inputs), on_data)
    found: set[int] = set()
    for layer in flatten(model):
        inside = list(flatten(layer))
        if any(map(_learns, inside)):
            continue
        if any(is_augmentation(inner) or _changes_data(inner, on_data) for inner in inside):
            found.update(id(inner) for inner in inside)
    return frozenset(found)


def _learns(layer: keras.Layer) -> bool:
    """Returns whether the layer has weights that are learned, quantised ones included."""
    return bool(made_trainable(layer)) or getattr(layer, "quantization_mode", None) is not None


def _changes_data(layer: keras.Layer, on_data: set[int]) -> bool:
    """Returns whether a layer changes data in training: noise, or code that is not Keras' own."""
    if id(layer) not in on_data:
        return False
    if isinstance(layer, keras.layers.GaussianNoise):  # data augmentation in the words of Keras
        return True
    return (
        not is_of_library(layer) and not isinstance(layer, _REGULARIZERS) and takes_training(layer)
    )


def _walk(model: keras.Model, learned: list[bool], on_data: set[int]) -> list[bool]:
    """Adds the layers that do not depend on any trainable weight to `on_data`.

    Args:
        model: Model to take apart, with the models inside it.
        learned: Whether each of its inputs depends on such a weight.
        on_data: `id` of the layers.

    Returns:
        Whether each of its outputs depends on such a weight.
    """
    known = {id(tensor): value for tensor, value in zip(model.inputs, learned, strict=True)}
    for node in nodes_of(model):
        if node.is_input:
            continue
        given = [known.get(id(tensor), True) for tensor in node.input_tensors]
        operation = node.operation
        inner = functional_of(operation)
        if inner is not None and len(inner.inputs) == len(given):
            made = _walk(inner, given, on_data)
        else:
            layers = list(flatten(operation)) if isinstance(operation, keras.Layer) else []
            depends = any(given) or any(map(_learns, layers))
            if depends:
                on_data.difference_update(map(id, layers))
            else:
                on_data.update(map(id, layers))
            made = [depends] * len(node.outputs)
        known.update((id(output), value) for output, value in zip(node.outputs, made, strict=True))
    return [known.get(id(output), True) for output in model.outputs]

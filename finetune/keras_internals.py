"""Every private member of Keras that this package relies on, each behind a function with a name.

A new release of Keras is then the work of this file and of `tests/test_keras_internals.py`, which says
what each function relies on.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer,
)
from keras.src.models.functional import Functional
from keras.src.ops.numpy import NotEqual

__all__ = ["BaseImagePreprocessingLayer", "Functional", "NotEqual"]


def flatten(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yields `layer` and every layer inside it, parents before children, each one once."""
    seen: set[int] = set()
    for inner in layer._flatten_layers(include_self=True, recursive=True):
        if id(inner) not in seen:
            seen.add(id(inner))
            yield inner


def direct_layers(layer: Any) -> list[keras.Layer]:
    """Returns the layers that `layer` holds itself, without those inside them."""
    return list(layer._layers)


def direct_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of `layer` itself, those that its class made trainable first."""
    return layer._trainable_variables + layer._non_trainable_variables


def made_trainable(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of `layer` itself that its class made trainable, whatever their flag."""
    return layer._trainable_variables


def made_untrainable(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of `layer` itself that its class made non-trainable."""
    return layer._non_trainable_variables


def kernel_of(layer: Any) -> keras.Variable:
    """Returns the variable of a kernel; the public `kernel` of a layer with LoRA is a sum."""
    return layer._kernel


def functional_of(layer: Any) -> Functional | None:
    """Returns the functional model that calling `layer` runs, if the call does nothing else."""
    if isinstance(layer, keras.Sequential):
        return layer._functional if type(layer).call is keras.Sequential.call else None
    if isinstance(layer, Functional) and type(layer).call is Functional.call:
        return layer
    return None


def graph_of(model: Any) -> Any:
    """Returns the functional model behind a functional or sequential one."""
    return model._functional if isinstance(model, keras.Sequential) else model


def nodes_of(model: Any) -> list[Any]:
    """Returns the calls of a functional or sequential model, from input to output, inputs included."""
    by_depth = graph_of(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def input_structure(model: Any) -> Any:
    """Returns the Keras tensors of a model's inputs in the structure in which it takes them."""
    return graph_of(model)._inputs_struct


def output_structure(model: Any) -> Any:
    """Returns the Keras tensors of a model's outputs in the structure in which it returns them."""
    return graph_of(model)._outputs_struct


def maker_of(tensor: Any) -> Any:
    """Returns the layer or operation that made a Keras tensor."""
    return tensor._keras_history.operation


def call_context(layer: keras.Layer) -> Any:
    """Returns the context of the call in progress, which holds the mode for the layers below."""
    return layer._get_call_context()


def takes_training_mode(operation: Any) -> bool:
    """Tells whether Keras passes `training` to the call of an operation."""
    return getattr(operation, "_call_has_training_arg", False)


def added_losses(layer: keras.Layer) -> int:
    """Returns how many losses the last call of `layer`, and of the layers inside it, has added.

    They are removed.
    """
    number = sum(len(inner._losses) for inner in flatten(layer))
    layer._clear_losses()
    return number

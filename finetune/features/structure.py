"""The digest of a prefix as a program: its operations, their settings and their wiring."""

import hashlib
import json
from typing import Any

import keras
import numpy as np

from finetune.features.code_digest import code_sha256
from finetune.features.cut import Cut
from finetune.features.graph import Edge, Graph
from finetune.keras_internals import direct_layers, flatten


class UndescribedError(Exception):
    """A layer cannot be told from another one by its settings, so its features have no key."""


def structure_sha256(graph: Graph, cut: Cut) -> str:
    """Returns a digest of the prefix as a program: operations, settings, wiring, shapes.

    Names are left out, since they depend on what the process built before.

    Raises:
        UndescribedError: If a layer of the user's own has no `get_config`.
    """
    numbers = {edge: number for number, edge in enumerate(graph.inputs)}
    lines = [_shape(graph, edge) for edge in graph.inputs]
    for index in cut.calls:
        call = graph.calls[index]
        for edge in call.outputs:
            numbers[edge] = len(numbers)
        cls = type(call.operation)
        config = _nameless(_config(call.operation))
        inputs = [
            _described(graph.constants[edge]) if edge in graph.constants else numbers[edge]
            for edge in call.inputs
        ]
        constants = _constants(call.node.arguments)
        learned = _learned(call.operation)
        lines.append(
            json.dumps(
                [
                    f"{cls.__module__}.{cls.__qualname__}",
                    config,
                    inputs,
                    constants,
                    code_sha256(call.operation),
                    learned,
                ],
                sort_keys=True,
                default=_described,
            )
        )
    lines.append(json.dumps([[numbers[e], _shape(graph, e)] for e in cut.edges]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _config(operation: Any) -> dict[str, Any]:
    """Returns the settings of an operation; if that fails, its attributes and inner layers.

    KerasHub's Swin fails, because it serializes classes as if they were objects.
    """
    try:
        return operation.get_config()
    except NotImplementedError as error:
        raise UndescribedError(f"{type(operation).__name__} has no full get_config") from error
    except TypeError:
        bookkeeping = vars(keras.layers.Layer()).keys()
        own = {
            key: value
            for key, value in vars(operation).items()
            if key not in bookkeeping and not key.startswith("_self_")
        }
        layers = direct_layers(operation)
        inner = [[type(layer).__qualname__, _config(layer)] for layer in layers]
        settings = {key: value for key, value in own.items() if not _is_state(value)}
        return {"dtype": operation.dtype_policy.name, "inner": inner, "settings": settings}


def _learned(operation: Any) -> list[Any]:
    """Returns the vocabularies that layers have adapted to, which are in no weight or setting."""
    layers = flatten(operation) if isinstance(operation, keras.Layer) else ()
    return [
        [list(map(str, layer.get_vocabulary())), getattr(layer, "idf_weights", None)]
        for layer in layers
        if hasattr(layer, "get_vocabulary")
    ]


def _is_state(value: Any) -> bool:
    """Tells whether a value is weights or layers, which are described elsewhere."""
    values = value if isinstance(value, list) and value else [value]
    return all(isinstance(held, keras.Layer | keras.Variable) for held in values)


def _shape(graph: Graph, edge: Edge) -> str:
    spec = graph.specs[edge]
    return f"{tuple(spec.shape)} {spec.dtype}"


def _constants(arguments: Any) -> Any:
    """Returns the arguments of a call other than tensors: slices, axes, flags, arrays."""
    return arguments.convert(lambda x: "tensor" if isinstance(x, keras.KerasTensor) else x)


def _described(value: Any) -> str:
    """Returns a text that is equal for equal values in every process.

    Raises:
        UndescribedError: If there is none.
    """
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(value)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return f"{array.dtype} {array.shape} {digest}"
    text = repr(value)
    if " at 0x" in text:
        raise UndescribedError(f"{type(value).__name__} has no description")
    return text


def _nameless(value: Any) -> Any:
    """Returns a config without the names and flags that do not change what is computed."""
    if isinstance(value, dict):
        if "DTypePolicy" in str(value.get("class_name")):
            return value  # its name is the precision
        dropped = ("name", "trainable", "build_config", "compile_config")
        return {str(k): _nameless(v) for k, v in value.items() if k not in dropped}
    if isinstance(value, list | tuple):
        return [_nameless(item) for item in value]
    return value

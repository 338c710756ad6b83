"""A task model as one flat list of calls, any part of which is a model of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from finetune.keras_internals import takes_training_mode

Edge = int


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one operation, as Keras recorded it.

    Args:
        operation: The layer or operation.
        node: Keras' record of the arguments.
        inputs: Edges in the order of ``node.input_tensors``.
        outputs: Edges in the order of ``node.outputs``.
    """

    operation: Any
    node: Any
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Every call from the inputs to the outputs of a model, after the calls that it depends on.

    Masks are edges like any other: Keras records the mask of a layer among the arguments of its call.

    Args:
        calls: The calls in an order in which they can run.
        inputs: Edges of the model's inputs, flattened.
        outputs: Edges of the model's outputs, flattened.
        specs: The Keras tensor of each edge: shape (batch first), dtype.
        structure: Structure of the outputs, for `keras.tree.pack_sequence_as`.
        whole: Names of layers that hold several stages and could not be taken apart, with reasons.
        constants: Values of edges that no call makes: what a layer without weights computes from
            shapes alone, such as rotary positions.
        unfixed: Indices of the calls that do more than compute the same output from the same rows,
            with reasons: they draw random numbers, or add a loss.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    specs: Mapping[Edge, keras.KerasTensor]
    structure: Any
    whole: Mapping[str, str]
    constants: Mapping[Edge, Any]
    unfixed: Mapping[int, str] = field(default_factory=dict)


class Part(keras.Model):
    """A part of a graph as a model that shares layers and weights with the whole.

    Call arguments:
        inputs: A tuple of tensors, one for each edge in `inputs`.
        training: As in Keras; a held layer overrides it.

    Args:
        graph: The whole graph.
        calls: Indices of the calls that the part makes.
        inputs: Edges that it is given.
        outputs: Edges that it returns as a tuple; None returns what the whole model returns.
    """

    def __init__(
        self,
        graph: Graph,
        calls: Iterable[int],
        inputs: Sequence[Edge],
        outputs: Sequence[Edge] | None = None,
    ) -> None:
        super().__init__()
        # As in Keras' own functional models, each layer casts its inputs, the whole does not.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self._graph_inputs = tuple(inputs)
        self._graph_outputs = None if outputs is None else tuple(outputs)
        self._graph = _Untracked((graph, [graph.calls[index] for index in sorted(calls)]))
        # Tracked by Keras, so that weights, losses and seeds of these layers are this model's.
        operations = {id(call.operation): call.operation for call in self._graph.value[1]}
        self.parts = [layer for layer in operations.values() if isinstance(layer, keras.Layer)]
        self.built = True

    def call(self, inputs: tuple[Any, ...], training: bool | None = None) -> Any:
        """Runs the part; see the class."""
        graph, calls = self._graph.value
        tensors = [x if keras.ops.is_tensor(x) else keras.ops.convert_to_tensor(x) for x in inputs]
        values = {**graph.constants, **dict(zip(self._graph_inputs, tensors, strict=True))}
        for call in calls:
            _run(call, values, training)
        if self._graph_outputs is not None:
            return tuple(values[edge] for edge in self._graph_outputs)
        flat = [values[edge] for edge in graph.outputs]
        return keras.tree.pack_sequence_as(graph.structure, flat)


def _run(call: Call, values: dict[Edge, Any], training: bool | None) -> None:
    """Runs one call on the tensors in `values`, and adds its outputs to them."""
    known = {
        id(spec): values[edge]
        for spec, edge in zip(call.node.input_tensors, call.inputs, strict=True)
    }
    args, kwargs = call.node.arguments.fill_in(known)
    if training is not None and takes_training_mode(call.operation):
        kwargs["training"] = training
    results = keras.tree.flatten(call.operation(*args, **kwargs))
    values.update(zip(call.outputs, results, strict=True))


@dataclass(frozen=True, eq=False)
class _Untracked:
    """Hides a value from Keras' attribute tracking."""

    value: tuple[Graph, list[Call]]

"""A task model as one flat list of calls, so that it can be run in two parts.

Functional models nested in functional models (a backbone in a KerasHub task) are taken apart; a
layer that holds layers of several stages (a transformer's encoder) is traced through its own
`call`. What cannot be taken apart stays one call. Masks are edges like any other: Keras records
the mask that it hands to a layer among the arguments of the call.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from finetune.features.own_code import why_not_fixed
from finetune.keras_internals import (
    flatten,
    functional_of,
    input_structure,
    new_functional,
    nodes_of,
    output_structure,
    takes_training_mode,
)

Edge = int
Expand = Callable[[keras.Layer], bool]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one operation, as Keras recorded it.

    Args:
        operation: the layer or operation.
        node: Keras' record of the arguments.
        inputs: edges in the order of ``node.input_tensors``.
        outputs: edges in the order of ``node.outputs``.
    """

    operation: Any
    node: Any
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Every call from the inputs to the outputs of a model, each after those that it needs.

    Args:
        calls: in an order in which they can run.
        inputs: edges of the model's inputs, flattened.
        outputs: edges of the model's outputs, flattened.
        specs: the Keras tensor of each edge: shape (batch first), dtype.
        structure: of the outputs, for `keras.tree.pack_sequence_as`.
        whole: names of layers that hold several stages and could not be taken apart, with reasons.
        constants: values of edges that no call makes: what a layer without weights makes of shapes
            alone, such as rotary positions.
        unfixed: calls whose output does not say all that they do, by index, with reasons: they
            draw random numbers, or add a loss.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    specs: Mapping[Edge, keras.KerasTensor]
    structure: Any
    whole: Mapping[str, str]
    constants: Mapping[Edge, Any]
    unfixed: Mapping[int, str] = field(default_factory=dict)


def flat_graph(model: keras.Model, expand: Expand) -> Graph | None:
    """Takes `model` apart; None where it is not a functional graph.

    Args:
        model: the task model, built.
        expand: tells which layers that are no functional models are traced through their `call`.
    """
    functional = functional_of(model)
    if functional is None:
        return None
    tracer = _Tracer(expand)
    inputs = [tracer.new_edge(each) for each in functional.inputs]
    outputs = tracer.functional(functional, inputs)
    return Graph(
        calls=tuple(tracer.calls),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        specs=dict(enumerate(tracer.specs)),
        structure=output_structure(functional),
        whole=tracer.whole,
        constants=tracer.constants,
        unfixed=tracer.unfixed,
    )


@dataclass(eq=False)
class _Tracer:
    expand: Expand
    calls: list[Call] = field(default_factory=list)
    specs: list[keras.KerasTensor] = field(default_factory=list)
    whole: dict[str, str] = field(default_factory=dict)
    constants: dict[Edge, Any] = field(default_factory=dict)
    unfixed: dict[int, str] = field(default_factory=dict)

    def new_edge(self, spec: keras.KerasTensor) -> Edge:
        self.specs.append(spec)
        return len(self.specs) - 1

    def functional(self, model: keras.Model, inputs: Sequence[Edge]) -> list[Edge]:
        """Adds the calls of `model` on `inputs`; returns the edges of its outputs."""
        edges = {id(each): edge for each, edge in zip(model.inputs, inputs, strict=True)}
        return self.nodes(nodes_of(model), edges, model.outputs)

    def nodes(
        self, nodes: Sequence[Any], edges: dict[int, Edge], outputs: Sequence[Any]
    ) -> list[Edge]:
        """Adds each node, `edges` being those of the tensors known so far."""
        needed = {id(each) for node in nodes for each in node.input_tensors} | set(map(id, outputs))
        for node in nodes:
            if node.is_input or any(id(each) not in edges for each in node.input_tensors):
                continue  # as Keras' own Function does
            ins = tuple(edges[id(each)] for each in node.input_tensors)
            # Known before a layer's own code is run: what it draws then would be a constant.
            unfixed = None if _inner_model(node) else why_not_fixed(node)
            outs = None if unfixed else self.inner(node, ins, needed)
            if outs is None:
                outs = [self.new_edge(each) for each in node.outputs]
                if unfixed:
                    self.unfixed[len(self.calls)] = unfixed
                self.calls.append(Call(node.operation, node, ins, tuple(outs)))
            edges.update((id(each), edge) for each, edge in zip(node.outputs, outs, strict=True))
        return [edges[id(each)] for each in outputs]

    def inner(self, node: Any, inputs: Sequence[Edge], needed: set[int]) -> list[Edge] | None:
        """Takes the call apart; None where it stays one. `needed`: ids of the outputs in use."""
        model = _inner_model(node)
        if model is not None:
            return self.functional(model, inputs)
        if (
            functional_of(node.operation) is None
            and isinstance(node.operation, keras.Layer)
            and (self.expand(node.operation) or _makes_no_rows(node))
        ):
            return self.traced(node, inputs, needed)
        return None

    def traced(self, node: Any, inputs: Sequence[Edge], needed: set[int]) -> list[Edge] | None:
        """Runs the layer's own `call` on symbolic tensors, and adds what that recorded."""
        layer = node.operation
        fresh = [
            keras.Input(batch_shape=each.shape, dtype=each.dtype) for each in node.input_tensors
        ]
        args, kwargs = node.arguments.fill_in(
            {id(old): new for old, new in zip(node.input_tensors, fresh, strict=True)}
        )
        try:
            with _nones_recorded(layer):
                results = keras.tree.flatten(layer.call(*args, **kwargs))
            symbolic = [each for each in results if isinstance(each, keras.KerasTensor)]
            model = new_functional(fresh, symbolic) if symbolic else None
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            # Its code asks for values: it is cut above or below, never inside.
            self.whole[layer.name] = f"{type(error).__name__} while it was traced"
            return None
        fixed = {
            id(old): value
            for old, value in zip(node.outputs, results, strict=True)
            if not isinstance(value, keras.KerasTensor)
        }
        if layer.weights and needed & fixed.keys():  # it may be made of weights, which change
            self.whole[layer.name] = "an output that depends on no input"
            return None
        made = iter([] if model is None else self.functional(model, inputs))
        return [
            self.constant(old, fixed[id(old)]) if id(old) in fixed else next(made)
            for old in node.outputs
        ]

    def constant(self, spec: keras.KerasTensor, value: Any) -> Edge:
        """Adds an edge that has the same value in each call of the model."""
        edge = self.new_edge(spec)
        self.constants[edge] = value
        return edge


@contextmanager
def _nones_recorded(parent: keras.Layer) -> Iterator[None]:
    """Lets Keras record the calls inside `parent` that return None beside tensors, as DeiT's do.

    A tensor that nothing uses stands for it. Replaces ``compute_output_spec`` meanwhile.
    """
    inner = [layer for layer in flatten(parent) if layer is not parent]
    for layer in inner:
        layer.compute_output_spec = functools.partial(_filled_spec, layer.compute_output_spec)
    try:
        yield
    finally:
        for layer in inner:
            layer.__dict__.pop("compute_output_spec", None)


def _filled_spec(compute_output_spec: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    spec = compute_output_spec(*args, **kwargs)
    nothing = keras.KerasTensor(shape=(), dtype="float32")
    return keras.tree.map_structure(lambda each: nothing if each is None else each, spec)


def _makes_no_rows(node: Any) -> bool:
    """Tells whether a layer without state makes what has not one row a sample, as its input has."""
    batch = tuple(node.input_tensors[0].shape[:1])
    other = any(tuple(each.shape[:1]) != batch for each in node.outputs)
    return other and not node.operation.variables  # seeds of random numbers are state


def _inner_model(node: Any) -> keras.Model | None:
    """Returns the functional model that a call runs and that can be taken apart."""
    model = functional_of(node.operation)
    if model is None or node.operation.activity_regularizer is not None:
        return None
    return model if _same_inputs(node, model) else None


def _same_inputs(node: Any, model: keras.Model) -> bool:
    """Tells whether the call gave `model` its inputs one by one, and nothing more than flags."""
    given = node.arguments.args[0] if node.arguments.args else node.arguments.kwargs.get("inputs")
    if isinstance(given, dict) and not isinstance(input_structure(model), dict):
        return False  # matched by name; Keras does that itself
    return len(keras.tree.flatten(given)) == len(node.input_tensors) == len(model.inputs)


def run(calls: Iterable[Call], values: dict[Edge, Any], training: bool | None) -> None:
    """Runs `calls` in order, reading from `values` and adding to it.

    Args:
        calls: a part of a graph.
        values: tensors by edge; holds what the calls need and do not make themselves.
        training: handed to every layer that takes it; a held layer overrides it.
    """
    for call in calls:
        known = {
            id(spec): values[edge]
            for spec, edge in zip(call.node.input_tensors, call.inputs, strict=True)
        }
        args, kwargs = call.node.arguments.fill_in(known)
        if training is not None and takes_training_mode(call.operation):
            kwargs["training"] = training
        results = keras.tree.flatten(call.operation(*args, **kwargs))
        values.update(zip(call.outputs, results, strict=True))


class Part(keras.Model):
    """A part of a graph as a model that shares layers and weights with the whole.

    Call arguments:
        inputs: a tuple of tensors, one for each of `inputs`.
        training: as in Keras.

    Args:
        graph: the whole.
        calls: indices of the calls that it makes.
        inputs: edges that it is given.
        outputs: edges that it returns, as a tuple; None returns what the whole model does.
    """

    def __init__(
        self,
        graph: Graph,
        calls: Iterable[int],
        inputs: Sequence[Edge],
        outputs: Sequence[Edge] | None = None,
    ) -> None:
        super().__init__()
        # As Keras' own functional models: each layer casts what it is given, the whole does not.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self._graph_inputs = tuple(inputs)
        self._graph_outputs = None if outputs is None else tuple(outputs)
        self._graph = _Untracked((graph, [graph.calls[index] for index in sorted(calls)]))
        # Tracked by Keras, so that weights, losses and seeds of these layers are this model's.
        operations = {id(c.operation): c.operation for c in self._graph.value[1]}
        self.parts = [each for each in operations.values() if isinstance(each, keras.Layer)]
        self.built = True

    def call(self, inputs: tuple[Any, ...], training: bool | None = None) -> Any:
        """See the class."""
        graph, calls = self._graph.value
        tensors = [x if keras.ops.is_tensor(x) else keras.ops.convert_to_tensor(x) for x in inputs]
        values = {**graph.constants, **dict(zip(self._graph_inputs, tensors, strict=True))}
        run(calls, values, training)
        if self._graph_outputs is not None:
            return tuple(values[edge] for edge in self._graph_outputs)
        flat = [values[edge] for edge in graph.outputs]
        return keras.tree.pack_sequence_as(graph.structure, flat)


@dataclass(frozen=True, eq=False)
class _Untracked:
    """Hides what it holds from Keras' attribute tracking."""

    value: tuple[Graph, list[Call]]

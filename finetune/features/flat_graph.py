"""Takes a task model apart into one flat list of calls, so that it can be run in two parts.

Functional models nested in functional models (a backbone in a KerasHub task) are taken apart; a
layer that holds layers of several stages (a transformer's encoder) is traced through its own
`call`. What cannot be taken apart stays one call.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from finetune.features.graph import Call, Edge, Graph
from finetune.features.own_code import why_not_fixed
from finetune.keras_internals import (
    flatten,
    functional_of,
    input_structure,
    new_functional,
    nodes_of,
    output_structure,
)

Expand = Callable[[keras.Layer], bool]


def flat_graph(model: keras.Model, expand: Expand) -> Graph | None:
    """Takes `model` apart; returns None if it is not a functional graph.

    Args:
        model: The built task model.
        expand: Tells which layers that are no functional models are traced through their `call`.
    """
    functional = functional_of(model)
    if functional is None:
        return None
    tracer = _Tracer(expand)
    inputs = [tracer.new_edge(tensor) for tensor in functional.inputs]
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
    """Collects the calls of a model; the fields are those of `Graph`."""

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
        edges = {id(tensor): edge for tensor, edge in zip(model.inputs, inputs, strict=True)}
        nodes, outputs = nodes_of(model), model.outputs
        needed = {id(tensor) for node in nodes for tensor in node.input_tensors}
        needed.update(map(id, outputs))
        for node in nodes:
            if node.is_input or any(id(tensor) not in edges for tensor in node.input_tensors):
                continue  # as Keras' own Function does
            edges_in = tuple(edges[id(tensor)] for tensor in node.input_tensors)
            edges_out = self.node(node, edges_in, needed)
            edges.update(zip(map(id, node.outputs), edges_out, strict=True))
        return [edges[id(tensor)] for tensor in outputs]

    def node(self, node: Any, inputs: tuple[Edge, ...], needed: set[int]) -> Sequence[Edge]:
        """Adds one call, or the calls inside it; returns the edges of its outputs.

        Args:
            node: Keras' record of the call.
            inputs: Edges of its inputs.
            needed: Ids of the tensors that are used anywhere.
        """
        model = _inner_model(node)
        if model is not None:
            return self.functional(model, inputs)
        # Known before a layer's own code is run: what it draws then would be a constant.
        unfixed = why_not_fixed(node)
        if (
            not unfixed
            and functional_of(node.operation) is None
            and isinstance(node.operation, keras.Layer)
            and (self.expand(node.operation) or _makes_no_rows(node))
        ):
            traced = self.traced(node, inputs, needed)
            if traced is not None:
                return traced
        outputs = tuple(self.new_edge(tensor) for tensor in node.outputs)
        if unfixed:
            self.unfixed[len(self.calls)] = unfixed
        self.calls.append(Call(node.operation, node, inputs, outputs))
        return outputs

    def traced(self, node: Any, inputs: Sequence[Edge], needed: set[int]) -> list[Edge] | None:
        """Runs the layer's own `call` on symbolic tensors, and adds the calls that Keras recorded."""
        layer = node.operation
        fresh = [
            keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
            for tensor in node.input_tensors
        ]
        args, kwargs = node.arguments.fill_in(
            {id(old): new for old, new in zip(node.input_tensors, fresh, strict=True)}
        )
        try:
            with _nones_recorded(layer):
                results = keras.tree.flatten(layer.call(*args, **kwargs))
            symbolic = [result for result in results if isinstance(result, keras.KerasTensor)]
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
        """Adds an edge that has the same value in every call of the model."""
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
    return keras.tree.map_structure(lambda tensor: nothing if tensor is None else tensor, spec)


def _makes_no_rows(node: Any) -> bool:
    """Tells whether a layer without state returns something that has not one row per sample."""
    batch = tuple(node.input_tensors[0].shape[:1])
    other = any(tuple(tensor.shape[:1]) != batch for tensor in node.outputs)
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

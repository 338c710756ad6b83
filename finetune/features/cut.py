"""Where the frozen, deterministic part of a task model ends, and what crosses from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from finetune.backbones.layer_kinds import is_plain_preprocessing, takes_training
from finetune.features.flat_graph import flat_graph
from finetune.features.graph import Edge, Graph
from finetune.features.own_code import own_steps
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan, State
from finetune.keras_internals import direct_layers, flatten, kernel_of


@dataclass(frozen=True)
class Cut:
    """The largest frozen, deterministic prefix of one phase.

    Args:
        calls: Indices of the calls below the cut.
        edges: Tensors that cross the cut, in order: made below (or inputs of the model), used above.
        name: Names of the layers that make them, for people.
        weights: Paths of all weights below.
    """

    calls: tuple[int, ...]
    edges: tuple[Edge, ...]
    name: str
    weights: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The part above a cut if it is one dense layer, with nothing but dropout before it.

    Args:
        first: The layer that takes the features.
        dense: The dense layer, with a bias and no activation.
        before: The layers before the dense one.
    """

    first: keras.Layer
    dense: keras.layers.Dense
    before: tuple[keras.Layer, ...] = ()

    @property
    def weights(self) -> tuple[keras.Variable, keras.Variable]:
        """Kernel and bias; under LoRA, the kernel that LoRA adds to."""
        return kernel_of(self.dense), self.dense.bias

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of constraints and regularizers, such as ``kernel_constraint MaxNorm``, and of LoRA.

        They apply to the weights as they are, so a head that has any cannot train in other
        coordinates. Neither can one whose kernel does not train, under LoRA or quantised.
        """
        found = [
            (f"{name}_{kind}", getattr(variable, kind))
            for name, variable in zip(("kernel", "bias"), self.weights, strict=True)
            for kind in ("constraint", "regularizer")
        ]
        layers = (*self.before, self.dense)
        found += [("activity_regularizer", layer.activity_regularizer) for layer in layers]
        terms = [
            f"{name} {getattr(term, '__name__', type(term).__name__)}"
            for name, term in found
            if term is not None
        ]
        if self.dense.lora_enabled:
            terms.append(f"LoRA of rank {self.dense.lora_rank}")
        if self.dense.quantization_mode is not None:
            terms.append(f"{self.dense.quantization_mode} quantization")
        return tuple(terms)


def task_graph(inventory: Inventory) -> Graph | None:
    """Takes a task model apart, including layers that hold layers of several stages.

    Returns:
        The graph; None if the model is no functional graph, or has training steps of its own.
    """
    if own_steps(inventory.model):
        return None
    index_of = {id(layer): index for index, layer in enumerate(inventory.layers)}

    def spans_stages(layer: keras.Layer) -> bool:
        inside = [inner for inner in flatten(layer) if inner is not layer and inner.weights]
        return len({inventory.layer_stages[index_of[id(inner)]] for inner in inside}) > 1

    return flat_graph(inventory.model, spans_stages)


def ready_at(cut: Cut | None, index: int, plans: Sequence[FreezePlan]) -> int:
    """Returns the first phase from whose start on the prefix of phase `index` does not change."""
    if cut is None:
        return 0
    ready = index
    while ready > 0 and set(cut.weights) <= set(plans[ready - 1].held_weights):
        ready -= 1
    return ready


def find_cut(graph: Graph, inventory: Inventory, plan: FreezePlan) -> Cut | None:
    """Returns the cut of a phase with `plan`; None if no weight would be below it.

    A call is below the cut if all its inputs are, none of its weights may change in the phase, and it
    always computes the same output and does nothing else, such as adding a loss. A frozen part above
    a trainable one is therefore above the cut. There is no cut either if a tensor would cross that
    has not one row per sample, since the store holds rows.
    """
    calls, _ = _prefix(graph, inventory, plan)
    calls = _narrowed(graph, calls)
    edges = crossing(graph, calls)
    layers = [graph.calls[index].operation for index in calls]
    owned = {id(v) for layer in layers if isinstance(layer, keras.Layer) for v in layer.weights}
    weights = tuple(path for path, v in inventory.variables.items() if id(v) in owned)
    batch = graph.specs[graph.inputs[0]].shape[:1]
    if any(graph.specs[edge].shape[:1] != batch for edge in edges):
        return None
    if not weights or len(calls) == len(graph.calls):
        return None
    return Cut(tuple(calls), edges, _name(graph, calls, edges), weights)


def awake_above(
    graph: Graph, inventory: Inventory, plan: FreezePlan, cut: Cut | None
) -> tuple[tuple[str, ...], int]:
    """Finds what keeps frozen weights out of the prefix of a phase although nothing in it trains.

    Returns:
        The names of the layers that end the prefix because they augment data in training, and the
        number of frozen weights above them.
    """
    augmentation = {id(inventory.layers[index]) for index in inventory.augmentation}
    ends = [
        index
        for index in _prefix(graph, inventory, plan)[1]
        if any(id(layer) in augmentation for layer in flatten(graph.calls[index].operation))
    ]
    below = set(() if cut is None else cut.weights)
    frozen = [p for p, state in plan.states.items() if state is State.FROZEN and p not in below]
    names = dict.fromkeys(graph.calls[index].operation.name for index in ends)
    return (tuple(names), len(frozen)) if frozen else ((), 0)


def _prefix(graph: Graph, inventory: Inventory, plan: FreezePlan) -> tuple[list[int], list[int]]:
    """Returns the calls of the prefix, and those right above it whose weights do not change.

    Neither list holds calls in `Graph.unfixed`.
    """
    index_of = {id(layer): index for index, layer in enumerate(inventory.layers)}
    held = {id(inventory.variables[path]) for path in plan.held_weights}
    below: set[Edge] = {*graph.inputs, *graph.constants}
    calls, ends = [], []
    for index, call in enumerate(graph.calls):
        if index in graph.unfixed or not below.issuperset(call.inputs):
            continue
        if any(id(weight) not in held for weight in getattr(call.operation, "weights", ())):
            continue
        if _is_fixed(call.operation, index_of, inventory, plan):
            calls.append(index)
            below.update(call.outputs)
        else:
            ends.append(index)
    return calls, ends


def crossing(graph: Graph, calls: Sequence[int]) -> tuple[Edge, ...]:
    """Returns the edges that `calls` make, or that are inputs, and that other calls use."""
    taken = set(calls)
    below = {edge for index in calls for edge in graph.calls[index].outputs} | set(graph.inputs)
    above = [call for index, call in enumerate(graph.calls) if index not in taken]
    used = [edge for call in above for edge in call.inputs] + list(graph.outputs)
    return tuple(dict.fromkeys(edge for edge in used if edge in below))


def _narrowed(graph: Graph, calls: list[int]) -> list[int]:
    """Leaves weightless calls at the top, such as padding, above the cut if less crosses then."""

    def width(kept: list[int]) -> float:
        edges = crossing(graph, kept)
        if any(_kind(graph, edge) is not None for edge in edges):
            return math.inf
        return sum(math.prod(d or 1 for d in graph.specs[edge].shape[1:]) for edge in edges)

    kept, narrowest = list(calls), width(calls)
    for index in reversed(calls):
        outputs = graph.calls[index].outputs
        needed = any(edge in graph.calls[i].inputs for i in kept for edge in outputs)
        if needed or getattr(graph.calls[index].operation, "weights", ()):
            continue
        without = [other for other in kept if other != index]
        if width(without) < narrowest:
            kept, narrowest = without, width(without)
    return kept


def unstorable(graph: Graph, cut: Cut) -> str | None:
    """Names the crossing tensors that are no arrays of numbers, for people; None if all are."""
    kinds = {edge: _kind(graph, edge) for edge in cut.edges}
    named = [
        f"{kind} of {_name(graph, cut.calls, (edge,))}"
        for edge, kind in kinds.items()
        if kind is not None
    ]
    return " and ".join(named) if named else None


def _kind(graph: Graph, edge: Edge) -> str | None:
    """Says what a tensor is that fits no array of numbers; None if it does."""
    spec = graph.specs[edge]
    made_by = [call.operation for call in graph.calls if edge in call.outputs]
    # Keras takes what an operation makes of an array for sparse, too.
    known = all(isinstance(operation, keras.Layer) for operation in made_by)
    if str(spec.dtype) == "string":
        return "the texts"
    if known and getattr(spec, "sparse", False):
        return "the sparse tensor"
    return "the ragged tensor" if getattr(spec, "ragged", False) else None


def find_linear_head(graph: Graph, cut: Cut) -> LinearHead | None:
    """Returns the head that trains on the features of `cut`, if it is linear in them."""
    taken = set(cut.calls)
    above = [call for index, call in enumerate(graph.calls) if index not in taken]
    *before, last = above
    edge, *others = cut.edges
    if others or len(graph.specs[edge].shape) != 2:
        return None
    for call in above:
        if call.inputs != (edge,):
            return None
        edge = call.outputs[0]
    dense = last.operation
    if (
        not all(isinstance(call.operation, keras.layers.Dropout) for call in before)
        or type(dense) is not keras.layers.Dense
        or not dense.use_bias
        or dense.activation is not keras.activations.linear
        or graph.outputs != last.outputs
    ):
        return None
    return LinearHead(above[0].operation, dense, tuple(call.operation for call in before))


def _is_fixed(
    operation: Any,
    index_of: Mapping[int, int],
    inventory: Inventory,
    plan: FreezePlan,
) -> bool:
    """Tells whether an operation gives the same output as long as its weights do not change."""
    if not isinstance(operation, keras.Layer):
        return True
    for layer in flatten(operation):
        index = index_of.get(id(layer))
        inactive = index is not None and inventory.layer_stages[index] in plan.inactive_stages
        held = index not in inventory.augmentation and (inactive or index in plan.held_layers)
        draws = len(layer.variables) > len(layer.weights) and not direct_layers(layer)
        if takes_training(layer) and not held and not is_plain_preprocessing(layer):
            return False  # it may behave otherwise in training, as dropout does
        if draws and not takes_training(layer):
            return False  # random in every mode
        if getattr(layer, "stateful", False):
            return False  # a recurrent layer that goes on from the batch before
    return True


def _name(graph: Graph, calls: Sequence[int], edges: Sequence[Edge]) -> str:
    made_by = {
        edge: getattr(graph.calls[index].operation, "name", "?")
        for index in calls
        for edge in graph.calls[index].outputs
    }
    return " + ".join(made_by.get(edge, "input") for edge in edges)

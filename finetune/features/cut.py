"""Where the frozen, deterministic part of a task model ends, and what crosses from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from finetune.backbones.layer_kinds import is_plain_preprocessing, takes_training
from finetune.features.graph import Edge, Graph, flat_graph
from finetune.features.own_code import own_steps
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan, State
from finetune.keras_internals import direct_layers, flatten, kernel_of


@dataclass(frozen=True)
class Cut:
    """The largest frozen, deterministic prefix of one phase.

    Args:
        calls: indices of the calls below the cut.
        edges: what crosses: made below (or an input of the model) and used above, in order.
        name: the layers that made it, for people.
        weights: paths of all weights below.
    """

    calls: tuple[int, ...]
    edges: tuple[Edge, ...]
    name: str
    weights: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """What lies above a cut where that is one dense layer, dropout before it aside.

    Args:
        first: the layer that is given the features.
        dense: the dense layer, with a bias and no activation.
        before: the layers before the dense one.
    """

    first: keras.Layer
    dense: keras.layers.Dense
    before: tuple[keras.Layer, ...] = ()

    @property
    def weights(self) -> tuple[keras.Variable, keras.Variable]:
        """Kernel and bias; where the dense layer has LoRA, the kernel that it adds to."""
        return kernel_of(self.dense), self.dense.bias

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of constraints and regularizers, such as ``kernel_constraint MaxNorm``, and of LoRA.

        They hold for the weights as they are: a head that has any trains in no other coordinates.
        So does one whose kernel is not what trains, below LoRA or quantised.
        """
        found = [
            (f"{name}_{kind}", getattr(variable, kind))
            for name, variable in zip(("kernel", "bias"), self.weights, strict=True)
            for kind in ("constraint", "regularizer")
        ]
        layers = (*self.before, self.dense)
        found += [("activity_regularizer", each.activity_regularizer) for each in layers]
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
    """Takes a task model apart, layers that hold layers of several stages too.

    Returns:
        The graph; None where the model is no functional graph, or brings steps of its own along.
    """
    if own_steps(inventory.model):
        return None
    index_of = {id(layer): index for index, layer in enumerate(inventory.layers)}

    def spans_stages(layer: keras.Layer) -> bool:
        inner = [each for each in flatten(layer) if each is not layer and each.weights]
        return len({inventory.layer_stages[index_of[id(each)]] for each in inner}) > 1

    return flat_graph(inventory.model, spans_stages)


def ready_at(cut: Cut | None, index: int, plans: Sequence[FreezePlan]) -> int:
    """Returns the first phase from whose start on the prefix of phase `index` stands still."""
    if cut is None:
        return 0
    ready = index
    while ready > 0 and set(cut.weights) <= set(plans[ready - 1].still):
        ready -= 1
    return ready


def find_cut(graph: Graph, inventory: Inventory, plan: FreezePlan) -> Cut | None:
    """Returns the cut of the phase that obeys `plan`; None where no weight lies below one.

    A call is below the cut if all that it uses is, none of its weights may move in the phase, and
    it gives the same output each time and does nothing else, such as adding a loss. A frozen part
    above a trainable one is therefore not. There is no cut either where something crosses that has
    not one row a sample: it has no place in a store of rows.
    """
    calls, _ = _prefix(graph, inventory, plan)
    calls = _narrowed(graph, calls)
    edges = crossing(graph, calls)
    layers = [graph.calls[index].operation for index in calls]
    owned = {id(v) for each in layers if isinstance(each, keras.Layer) for v in each.weights}
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
    """Finds what keeps frozen weights out of the prefix of a phase, other than what trains.

    Returns:
        The names of the layers that end the prefix since they augment data in training, though
        nothing in them trains; and the number of frozen weights that are above them.
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
    """Returns the calls of the prefix, and those right above it in which all weights stand still.

    Calls of the user's code that are not fixed (`Graph.unfixed`) are in neither.
    """
    index_of = {id(layer): index for index, layer in enumerate(inventory.layers)}
    still = {id(inventory.variables[path]) for path in plan.still}
    below: set[Edge] = {*graph.inputs, *graph.constants}
    calls, ends = [], []
    for index, call in enumerate(graph.calls):
        if index in graph.unfixed or not below.issuperset(call.inputs):
            continue
        if any(id(weight) not in still for weight in getattr(call.operation, "weights", ())):
            continue
        if _is_fixed(call.operation, index_of, inventory, plan):
            calls.append(index)
            below.update(call.outputs)
        else:
            ends.append(index)
    return calls, ends


def crossing(graph: Graph, calls: Sequence[int]) -> tuple[Edge, ...]:
    """Returns the edges that are made by `calls`, or are inputs, and that other calls use."""
    taken = set(calls)
    below = {edge for index in calls for edge in graph.calls[index].outputs} | set(graph.inputs)
    above = [call for index, call in enumerate(graph.calls) if index not in taken]
    used = [edge for call in above for edge in call.inputs] + list(graph.outputs)
    return tuple(dict.fromkeys(edge for edge in used if edge in below))


def _narrowed(graph: Graph, calls: list[int]) -> list[int]:
    """Leaves weightless calls at the top, such as padding, above the cut where less then crosses."""

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
        without = [each for each in kept if each != index]
        if width(without) < narrowest:
            kept, narrowest = without, width(without)
    return kept


def unstorable(graph: Graph, cut: Cut) -> str | None:
    """Returns which of the tensors that cross are no arrays of numbers, for people; None: none."""
    kinds = {edge: _kind(graph, edge) for edge in cut.edges}
    named = [
        f"{kind} of {_name(graph, cut.calls, (edge,))}"
        for edge, kind in kinds.items()
        if kind is not None
    ]
    return " and ".join(named) if named else None


def _kind(graph: Graph, edge: Edge) -> str | None:
    """Returns what a tensor is that has no place in an array of numbers; None: it has one."""
    spec = graph.specs[edge]
    made_by = [call.operation for call in graph.calls if edge in call.outputs]
    # Keras takes what an operation makes of an array for sparse, too.
    known = all(isinstance(each, keras.Layer) for each in made_by)
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
    """Tells whether the operation gives the same output as long as its weights stand still."""
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

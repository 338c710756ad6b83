"""Stages of a user's own model: found automatically, or given by a rule."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from finetune.backbones import HEAD
from finetune.backbones.stages import Stage, stages
from finetune.errors import ConfigError
from finetune.keras_internals import graph_of, has_graph, maker_of, nodes_of

StageRule = Mapping[str, str | Sequence[str]] | Callable[[keras.Layer], str | None]


def own_stages(model: keras.Model, rule: StageRule | None = None) -> tuple[Stage, ...]:
    """Splits a model into stages. Layers outside all stages are the head.

    Args:
        model: Built functional or sequential model.
        rule: ``{stage name: regular expression or names}`` in order from input to output, where an
            expression must match the whole name of a layer. Or a function from a layer to the name
            of its stage, or None for the head. Layers are those of the model, and those of nested
            models that are not in a stage as a whole. None finds the stages automatically: those of
            the single nested model that all other layers with weights follow, or of everything
            before the last layer with weights.

    Raises:
        ConfigError: If the model has no graph of layers, a rule matches no layer, or two rules
            match the same one.
    """
    if not has_graph(model) or not model.built:
        raise ConfigError(
            "model must be a built functional or sequential keras.Model. Received: "
            f"{type(model).__name__}. Call it on data once, or write it with keras.Model(inputs, "
            "outputs)."
        )
    if rule is None:
        found = tuple(stage for stage in stages(_backbone(model)) if stage.weights)
        if not found:
            raise ConfigError(
                f"stages must be given for {model.name}, because no chain of layers with weights "
                "precedes its last one. Received: None. Name the stages: stages={'low': 'regex', …}."
            )
        return found
    if isinstance(rule, Mapping):
        found = _by_names(model, _checked(rule))
    elif callable(rule):
        found = _by_function(model, rule)
    else:
        raise ConfigError(
            "stages must be a mapping from names to layers, a function, or None. Received: "
            f"{rule!r}. Write stages={{'low': 'regex', 'high': ['layer', …]}}."
        )
    _require_order(model, found)
    return found


def _checked(rule: Mapping[str, Any]) -> Mapping[str, str | Sequence[str]]:
    problems = []
    for name, given in rule.items():
        names = isinstance(given, list | tuple) and all(
            isinstance(pattern, str) for pattern in given
        )
        if not isinstance(given, str) and not names:
            problems.append(
                f"stages[{name}] must be a regular expression or a list of layer names. "
                f"Received: {given!r}. Quote it."
            )
        elif isinstance(given, str):
            try:
                re.compile(given)
            except (re.error, OverflowError, RecursionError) as error:
                problems.append(
                    f"stages[{name}] must be a regular expression. Received: {given} ({error}). "
                    "Escape special characters with a backslash."
                )
    if problems:
        raise ConfigError(problems)
    return rule


def _require_order(model: keras.Model, found: Sequence[Stage]) -> None:
    """Refuses unusable names, and stages that are not in order from input to output."""
    wrong = [stage.name for stage in found if not isinstance(stage.name, str)]
    if wrong or any(stage.name == HEAD for stage in found):
        raise ConfigError(
            f"stages must have names of type str other than {HEAD}, which is reserved for the other "
            f"layers. Received: {', '.join(str(stage.name) for stage in found)}. Rename the stage."
        )
    position: dict[int, int] = {}
    for layer in _layers(model, lambda layer: any(layer in stage.layers for stage in found)):
        position.setdefault(id(layer), len(position))
    firsts = [min(position[id(layer)] for layer in stage.layers) for stage in found]
    if firsts != sorted(firsts):
        named = [
            stage.name for _, stage in sorted(zip(firsts, found, strict=True), key=lambda x: x[0])
        ]
        raise ConfigError(
            "stages must be in order from input to output, because depths count them from the head. "
            f"Received: {', '.join(stage.name for stage in found)}. "
            f"The order is {', '.join(named)}."
        )


def _backbone(model: Any) -> keras.Model:
    """Returns the nested model that all others follow, or the part before the last weights."""
    weighted = [layer for layer in model.layers if layer.weights]
    if len(weighted) == 1 and has_graph(weighted[0]):
        return _backbone(weighted[0])  # a wrapper around another model
    if len(weighted) < 2:
        raise ConfigError(
            "model must have a layer with weights before its last one, the head. Received: "
            f"{model.name} with {len(weighted)}. There is nothing to freeze."
        )
    *below, head = weighted
    inside = [layer for layer in below if has_graph(layer)]
    if len(inside) == 1 and inside[0] is below[0]:
        return inside[0]
    *_, node = [node for node in nodes_of(model) if node.operation is head]
    return keras.Model(graph_of(model).inputs, node.input_tensors, name=model.name)


def _layers(model: Any, taken: Callable[[keras.Layer], bool]) -> list[keras.Layer]:
    """Returns the layers of a model; nested models are taken apart unless they are `taken`."""
    found: list[keras.Layer] = []
    for layer in model.layers:
        inner = has_graph(layer) and not taken(layer)
        found += _layers(layer, taken) if inner else [layer]
    return found


def _by_names(model: keras.Model, rule: Mapping[str, str | Sequence[str]]) -> tuple[Stage, ...]:
    def matches(layer: keras.Layer) -> list[str]:
        return [
            name
            for name, given in rule.items()
            if (re.fullmatch(given, layer.name) if isinstance(given, str) else layer.name in given)
        ]

    layers = _layers(model, lambda layer: bool(matches(layer)))
    problems = [
        f"stages must put layer {layer.name} in one stage. Received: {', '.join(matches(layer))}. "
        "Make the expressions more specific."
        for layer in layers
        if len(matches(layer)) > 1
    ]
    found: list[Stage] = []
    for name, given in rule.items():
        members = tuple(layer for layer in layers if name in matches(layer))
        known = {layer.name for layer in layers}
        absent = (
            [] if isinstance(given, str) else [wanted for wanted in given if wanted not in known]
        )
        if absent or not any(layer.weights for layer in members):
            what = f"no layer {', '.join(absent)}" if absent else "no layer with weights"
            problems.append(
                f"stages[{name}] must match layers with weights. Received: {given}, which matches "
                f"{what}. The layers are {', '.join(layer.name for layer in layers if layer.weights)}."
            )
        found.append(Stage(name, members))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _by_function(
    model: keras.Model, rule: Callable[[keras.Layer], str | None]
) -> tuple[Stage, ...]:
    groups: dict[str, list[keras.Layer]] = {}
    for layer in _layers(model, lambda layer: rule(layer) is not None):
        name = rule(layer)
        if name is not None:
            groups.setdefault(name, []).append(layer)
    found = [Stage(name, tuple(members)) for name, members in groups.items()]
    if not any(stage.weights for stage in found):
        raise ConfigError(
            "stages must return a stage for at least one layer with weights. Received: a function that "
            "returns none. Return None for the layers of the head only."
        )
    return tuple(stage for stage in found if stage.weights)


def last_activation(model: Any) -> tuple[str, str]:
    """Returns the name of the activation of a model's output, and of the layer that applies it.

    Args:
        model: Functional or sequential model with one output.

    Returns:
        ``linear``, ``softmax``, ``sigmoid`` or another function, and the name of a layer or
        operation.
    """
    operation = maker_of(model.outputs[0])
    if has_graph(operation):
        return last_activation(operation)
    while isinstance(operation, keras.layers.Wrapper):  # contains the layer that makes the output
        operation = operation.layer
    if isinstance(operation, keras.layers.Softmax):
        return "softmax", operation.name
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return getattr(activation, "__name__", str(activation)), operation.name
    return type(operation).__name__.lower(), operation.name

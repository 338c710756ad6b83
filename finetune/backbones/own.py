"""Stages of a model that is the user's own: found, or by a rule that the user gives."""

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
    """Splits a model into stages; what is in none of them is the head.

    Args:
        model: functional or sequential, built.
        rule: ``{stage name: regular expression or names}`` in order from input to output; an
            expression must match the whole name of a layer. Or a function from a layer to the name
            of its stage, None for the head. Layers are those of the model, and those of a model
            inside it that is in no stage as a whole. None finds stages: those of the one model
            inside that all other layers with weights follow, or of all that comes before the last
            layer with weights.

    Raises:
        ConfigError: for a model without a graph of layers, a rule that matches no layer or two
            rules that match the same one.
    """
    if not has_graph(model) or not model.built:
        raise ConfigError(
            "model must be a functional or sequential keras.Model, built. Received: "
            f"{type(model).__name__}. Call it on data once, or write it with keras.Model(inputs, "
            "outputs)."
        )
    if rule is None:
        found = tuple(stage for stage in stages(_backbone(model)) if stage.weights)
        if not found:
            raise ConfigError(
                f"stages must be given for {model.name}: below its last layer with weights there "
                "is no chain of others. Received: None. Name the stages: stages={'low': 'regex', …}."
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
                f"stages[{name}] must be a regular expression or a list of names of layers. "
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
    """Refuses names that cannot be used, and stages that are not from input to output."""
    wrong = [stage.name for stage in found if not isinstance(stage.name, str)]
    if wrong or any(stage.name == HEAD for stage in found):
        raise ConfigError(
            f"stages must have names of type str, none of them {HEAD}: that is what is in no "
            f"stage. Received: {', '.join(str(stage.name) for stage in found)}. Rename it."
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
            "stages must be in order from input to output: depths count them from the head. "
            f"Received: {', '.join(stage.name for stage in found)}. "
            f"In order they are {', '.join(named)}."
        )


def _backbone(model: Any) -> keras.Model:
    """Returns the one model that the others follow, or what comes before the last layer with weights."""
    weighted = [layer for layer in model.layers if layer.weights]
    if len(weighted) == 1 and has_graph(weighted[0]):
        return _backbone(weighted[0])  # a model around another one, and nothing else
    if len(weighted) < 2:
        raise ConfigError(
            "model must have a layer with weights below its last one, the head. Received: "
            f"{model.name} with {len(weighted)}. There is nothing to freeze."
        )
    *below, head = weighted
    inside = [layer for layer in below if has_graph(layer)]
    if len(inside) == 1 and inside[0] is below[0]:
        return inside[0]
    *_, node = [node for node in nodes_of(model) if node.operation is head]
    return keras.Model(graph_of(model).inputs, node.input_tensors, name=model.name)


def _layers(model: Any, taken: Callable[[keras.Layer], bool]) -> list[keras.Layer]:
    """Returns the layers of a model; a model inside is taken apart unless it is `taken`."""
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
        "Narrow the expressions."
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
            "stages must name a stage for some layer with weights. Received: a function that names "
            "none. Return None for the layers of the head only."
        )
    return tuple(stage for stage in found if stage.weights)


def last_activation(model: Any) -> tuple[str, str]:
    """Returns the name of what makes the output of a model, and of the layer that does it.

    Args:
        model: functional or sequential, of one output.

    Returns:
        ``linear``, ``softmax``, ``sigmoid`` or another function, and the name of a layer or
        operation.
    """
    operation = maker_of(model.outputs[0])
    if has_graph(operation):
        return last_activation(operation)
    while isinstance(operation, keras.layers.Wrapper):  # around the layer that makes the output
        operation = operation.layer
    if isinstance(operation, keras.layers.Softmax):
        return "softmax", operation.name
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return getattr(activation, "__name__", str(activation)), operation.name
    return type(operation).__name__.lower(), operation.name

"""Stages of a model that is the user's own: found, or by a rule that the user gives."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

from finetune.backbones.stages import Stage, stages
from finetune.errors import ConfigError

StageRule = Mapping[str, str | Sequence[str]] | Callable[[keras.Layer], str | None]


def own_stages(model: keras.Model, rule: StageRule | None = None) -> tuple[Stage, ...]:
    """Splits a model into stages; what is in none of them is the head.

    Args:
        model: functional or sequential, built.
        rule: ``{stage name: regular expression or names}`` in order from input to output; an
            expression must match the whole name of a layer. Or a function from a layer to the name
            of its stage, None for the head. Layers are those of the model, and those of a model
            inside it that is in no stage as a whole. None finds stages: those of the one model
            inside, or of all that comes before the last layer with weights.

    Raises:
        ConfigError: for a model without a graph of layers, a rule that matches no layer or two
            rules that match the same one.
    """
    if not isinstance(model, Functional | keras.Sequential) or not model.built:
        raise ConfigError(
            "model must be a functional or sequential keras.Model, built. Received: "
            f"{type(model).__name__}. Call it on data once, or write it with keras.Model(inputs, "
            "outputs)."
        )
    if rule is None:
        return stages(_backbone(model))
    if isinstance(rule, Mapping):
        return _by_names(model, rule)
    return _by_function(model, rule)


def _backbone(model: Any) -> keras.Model:
    """Returns the model inside, or what comes before the last layer with weights."""
    weighted = [layer for layer in model.layers if layer.weights]
    inside = [layer for layer in weighted if isinstance(layer, Functional | keras.Sequential)]
    if len(inside) == 1:
        return inside[0]
    if len(weighted) < 2:
        raise ConfigError(
            "model must have a layer with weights below its last one, the head. Received: "
            f"{model.name} with {len(weighted)}. There is nothing to freeze."
        )
    return keras.Model(model.inputs, weighted[-1].input, name=model.name)


def _layers(model: Any, taken: Callable[[keras.Layer], bool]) -> list[keras.Layer]:
    """Returns the layers of a model; a model inside is taken apart unless it is `taken`."""
    found: list[keras.Layer] = []
    for layer in model.layers:
        inner = isinstance(layer, Functional | keras.Sequential) and not taken(layer)
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
        absent = [] if isinstance(given, str) else [each for each in given if each not in known]
        if absent or not any(layer.weights for layer in members):
            what = f"no layer {', '.join(absent)}" if absent else "no layer with weights"
            problems.append(
                f"stages[{name}] must match layers with weights. Received: {given}, which matches "
                f"{what}. The layers are {', '.join(each.name for each in layers if each.weights)}."
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

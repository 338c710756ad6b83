"""Checks that a user's own model can be trained and saved, and detection of its objective."""

import inspect
from collections.abc import Sequence

import keras

from finetune.backbones.own import last_activation
from finetune.datasets.names import plain
from finetune.errors import ConfigError, first_line
from finetune.keras_internals import flatten
from finetune.tasks.objective import MULTI_LABEL, ONE, Objective


def objective_of(model: keras.Model) -> Objective:
    """Returns the objective that the outputs of a model are made for; logits mean one label."""
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ConfigError(
            "model must have one output of shape (batch, classes), with at least 2 classes. "
            f"Received: {model.name} with {shape}. End it with keras.layers.Dense(classes)."
        )
    kinds = {"softmax": ONE, "sigmoid": MULTI_LABEL}
    name, where = last_activation(model)
    if name not in ("linear", *kinds):
        raise ConfigError(
            "model must end with logits (a layer without activation), softmax or sigmoid. Received: "
            f"{name} in {where}. End it with keras.layers.Activation('linear') for logits, or with "
            "'softmax' or 'sigmoid'."
        )
    return Objective(kinds.get(name, ONE), shape[1], name not in kinds)


def require_writable(model: keras.Model) -> None:
    """Refuses, before training, models that could not be saved or loaded without running code."""
    if not isinstance(model, keras.Model):
        raise ConfigError(
            f"model must be a keras.Model. Received: {type(model).__name__}. Pass the model itself."
        )
    code = [layer.name for layer in flatten(model) if isinstance(layer, keras.layers.Lambda)]
    if code:
        raise ConfigError(
            "model must contain no Lambda layer, because Keras runs its code when it loads it. "
            f"Received: {', '.join(code)}. Write a custom layer with call and get_config."
        )
    try:
        keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model must be one that Keras can save. Received: {model.name} "
            f"({first_line(error)}). Give its custom "
            "layers a get_config."
        ) from error


def require_called_as_keras(model: keras.Model) -> None:
    """Refuses models that override Keras' methods with other arguments."""
    given: dict[str, tuple[str, ...]] = {
        "compile": ("optimizer", "loss", "metrics", "steps_per_execution", "auto_scale_loss"),
        "fit": ("x", "validation_data", "initial_epoch", "epochs", "steps_per_epoch", "shuffle",
                "callbacks", "verbose"),
        "evaluate": ("x", "verbose", "return_dict", "callbacks"),
        "predict": ("x", "verbose", "callbacks"),
    }  # fmt: skip
    problems = []
    for name, arguments in given.items():
        signature = inspect.signature(getattr(model, name))
        try:
            signature.bind(**dict.fromkeys(arguments))
        except TypeError as error:
            problems.append(
                f"model.{name} must take the arguments of keras.Model.{name}. Received: "
                f"{type(model).__name__}.{name}{signature} ({error}). Pass other arguments to the "
                "constructor of the model instead."
            )
    if problems:
        raise ConfigError(problems)


def class_names(classes: Sequence[str] | None, number: int) -> tuple[str, ...]:
    """Returns the label names of a model's outputs; by default their numbers."""
    names = tuple(map(str, range(number))) if classes is None else tuple(classes)
    named = all(isinstance(name, str) for name in names)
    if not named or len(names) != number or len({plain(name) for name in names}) != number:
        raise ConfigError(
            f"classes must be {number} different names, one for each output of the model. "
            f"Received: {len(names)} ({', '.join(map(repr, names[:10]))}). Give each output a unique name."
        )
    return names

"""The only place that sets `trainable` and that holds layers in inference mode.

Setting a parent's flag does not reach a child that already has it, and Keras overrides
``training=False`` given to a functional backbone while it fits (keras#20285). So this module sets
every layer and every weight by itself, holds layers one by one at their own ``call``, and asserts the
result. Layers that augment data are never held, even where the layer around them is.
"""

import functools
import inspect
from contextvars import ContextVar
from typing import Any

import keras

from finetune.errors import FinetuneError
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.keras_internals import call_context, direct_layers, made_trainable

_UNHELD = object()
_asked: ContextVar[Any] = ContextVar("asked", default=_UNHELD)
"""The mode that the outermost of the wrapped layers around the running one was called in."""


def apply(plan: FreezePlan, inventory: Inventory) -> None:
    """Makes the model obey `plan`; the caller recompiles it afterwards.

    Sets ``trainable`` on every layer and weight and replaces ``call`` of the held layers, in
    place; `release` undoes the latter.

    Raises:
        FinetuneError: If Keras then reports another set of trainable weights than the plan.
    """
    release(inventory)
    trainable = plan.trainable
    active = {info.layer for info in inventory.infos if info.path in trainable}
    for index, layer in enumerate(inventory.layers):
        layer.trainable = True
        inactive = inventory.layer_stages[index] in plan.inactive_stages
        if index in inventory.augmentation:
            _set_mode(layer, hold=False)
        elif layer is not inventory.model and (inactive or index in plan.held_layers):
            _set_mode(layer, hold=True)
    for index, layer in enumerate(inventory.layers):
        owns_weights = bool(made_trainable(layer))
        if owns_weights and index not in active and not direct_layers(layer):
            layer.trainable = False
    for path, variable in inventory.variables.items():
        variable.trainable = path in trainable
    _assert_obeyed(trainable, inventory)


def release(inventory: Inventory) -> None:
    """Gives every layer its own ``call`` back."""
    for layer in inventory.layers:
        if getattr(layer.__dict__.get("call"), "of_plan", False):
            del layer.call


def _set_mode(layer: keras.Layer, hold: bool) -> None:
    """Replaces the call of a layer by one in inference mode, or in the mode of the whole model.

    Args:
        layer: Any layer of the model.
        hold: True runs the layer in inference mode, if its call takes a mode. False runs it in the
            mode in which the held layers around it were called; this has no effect outside of them.
    """
    call = layer.call
    signature = inspect.signature(call)
    takes_mode = "training" in signature.parameters
    if hold and not takes_mode:
        return

    @functools.wraps(call)
    def call_in_mode(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind_partial(*args, **kwargs)
        # Keras keeps the mode that a layer was last given for all later layers that are given
        # none: a held layer that passed its False on would put the rest of the model to sleep.
        context = call_context(layer)
        outer = context.get_value("training")
        asked = _asked.get()
        if asked is _UNHELD:
            asked = bound.arguments.get("training", outer)
        mode = False if hold else asked
        if takes_mode:
            bound.arguments["training"] = mode
        token = _asked.set(asked)
        context.set_value("training", mode)
        try:
            return call(*bound.args, **bound.kwargs)
        finally:
            context.set_value("training", outer)
            _asked.reset(token)

    call_in_mode.of_plan = True  # type: ignore[attr-defined]
    layer.call = call_in_mode


def _assert_obeyed(trainable: frozenset[str], inventory: Inventory) -> None:
    reported = {id(variable) for variable in inventory.model.trainable_weights}
    wrong = [
        path
        for path, variable in inventory.variables.items()
        if (id(variable) in reported) != (path in trainable)
    ]
    if wrong:
        raise FinetuneError(
            f"Keras must report the planned weights as trainable. Received: {len(wrong)} that "
            f"differ ({', '.join(wrong[:5])}). A layer overrides `trainable`; freeze it whole."
        )

"""The only place that sets `trainable`, and that holds layers in inference mode.

Setting a parent's flag does not reach a child that already has it, and ``training=False`` given to
a functional backbone is overridden while Keras fits (keras#20285). So every layer and every weight
is set by itself, layers are held one by one at their own ``call``, and the result is asserted.
"""

import functools
import inspect
from typing import Any

import keras

from finetune.errors import FinetuneError
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan


def apply(plan: FreezePlan, inventory: Inventory) -> None:
    """Makes the model obey `plan`; the caller compiles it anew afterwards.

    Sets ``trainable`` on every layer and weight and replaces ``call`` of the held layers, in
    place; `release` undoes the latter.

    Raises:
        FinetuneError: if Keras then reports another set of trainable weights than the plan.
    """
    release(inventory)
    trainable = plan.trainable
    active = {info.layer for info in inventory.infos if info.path in trainable}
    for index, layer in enumerate(inventory.layers):
        layer.trainable = True
        inactive = inventory.layer_stages[index] in plan.inactive_stages
        if layer is not inventory.model and (inactive or index in plan.held_norms):
            _hold(layer)
    for index, layer in enumerate(inventory.layers):
        owns_weights = bool(layer._trainable_variables)
        if owns_weights and index not in active and not list(layer._layers):
            layer.trainable = False
    for path, variable in inventory.variables.items():
        variable.trainable = path in trainable
    _assert_obeyed(trainable, inventory)


def release(inventory: Inventory) -> None:
    """Gives every held layer its own ``call`` back."""
    for layer in inventory.layers:
        held = layer.__dict__.get("call")
        if getattr(held, "holds_inference", False):
            del layer.call


def _hold(layer: keras.Layer) -> None:
    call = layer.call
    signature = inspect.signature(call)
    if "training" not in signature.parameters:
        return

    @functools.wraps(call)
    def inference_call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind_partial(*args, **kwargs)
        bound.arguments["training"] = False
        # Keras keeps the mode last given to any layer for all that follow and are given none: a
        # held layer that hands its False on would put the rest of the model to sleep.
        context = layer._get_call_context()
        outer = context.get_value("training")
        try:
            return call(*bound.args, **bound.kwargs)
        finally:
            context.set_value("training", outer)

    inference_call.holds_inference = True  # type: ignore[attr-defined]
    layer.call = inference_call


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

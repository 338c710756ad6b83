"""The loss scale of mixed precision: an optimizer that wraps the optimizer of each phase.

Keras wraps the optimizer if the compiled model itself has the policy mixed_float16. Here the layers
decide, because part of a model, or a model around other models, also has gradients of float16.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from finetune.freezing.inventory import to_numpy
from finetune.keras_internals import flatten
from finetune.training.variables import assign


def scaled(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Any:
    """Returns the optimizer, with its own loss scale if a layer of `model` needs one.

    Args:
        optimizer: Optimizer of a phase.
        model: The whole task model, even if only part of it is compiled.
    """
    policies = {layer.dtype_policy.name for layer in flatten(model)}
    if "mixed_float16" not in policies:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the loss scale of a compiled model and the steps since it changed, if it has one."""
    return {name: to_numpy(variable) for name, variable in _variables(model).items()}


def load(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Restores what `state_of` returned."""
    if state:
        model.optimizer.build(model.trainable_variables)
        assign(_variables(model), state)


def _variables(model: keras.Model) -> dict[str, Any]:
    optimizer = model.optimizer
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or not optimizer.built:
        return {}
    return {"step_counter": optimizer.step_counter, "dynamic_scale": optimizer.dynamic_scale}

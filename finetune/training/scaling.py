"""The loss scale of mixed precision: Keras wraps the optimizer of each phase in one of its own."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from finetune.freezing.inventory import to_numpy
from finetune.training.live_state import assign


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the loss scale of a compiled model and the steps since it changed; empty: none."""
    return {name: to_numpy(each) for name, each in _variables(model).items()}


def load(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Puts back what `state_of` returned."""
    if state:
        model.optimizer.build(model.trainable_variables)
        assign(_variables(model), state)


def _variables(model: keras.Model) -> dict[str, Any]:
    optimizer = model.optimizer
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or not optimizer.built:
        return {}
    return {"step_counter": optimizer.step_counter, "dynamic_scale": optimizer.dynamic_scale}

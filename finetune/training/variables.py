"""The variables of a run that training changes: copied to arrays, and set from them."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from finetune.errors import ConfigError
from finetune.freezing.inventory import Inventory, as_array
from finetune.training.checkpoints import Arrays
from finetune.training.optimizers import OptimizerGroups

log = logging.getLogger(__name__)


def arrays_of(
    inventory: Inventory, optimizers: OptimizerGroups, paths: Collection[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the values of a run, by the name of the checkpoint's file and of the variable.

    Args:
        inventory: Inventory of the task model's weights.
        optimizers: Optimizers of the schedule.
        paths: Paths of the weights to include.

    Returns:
        The files ``weights``, ``optimizer`` and ``seeds``.
    """
    return {
        "weights": {
            path: as_array(variable)
            for path, variable in inventory.variables.items()
            if path in paths
        },
        "optimizer": optimizers.state(),
        "seeds": {name: as_array(seed) for name, seed in _seeds(inventory).items()},
    }


def load_arrays(inventory: Inventory, optimizers: OptimizerGroups, arrays: Arrays) -> None:
    """Sets the variables to what `arrays_of` returned.

    Raises:
        ConfigError: If the model does not have these variables.
    """
    assign(inventory.variables, arrays.get("weights", {}))
    assign(_seeds(inventory), arrays.get("seeds", {}))
    lacking = optimizers.load(arrays.get("optimizer", {}))
    if lacking:
        log.warning("%d optimizer slots start over: %s", len(lacking), ", ".join(lacking))


def assign(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    """Assigns values to the variables of the same names.

    Raises:
        ConfigError: If a value does not fit.
    """
    require_fitting(variables, values)
    for name, value in values.items():
        variables[name].assign(value)


def require_fitting(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    """Refuses values of variables that the model does not have.

    Raises:
        ConfigError: If there are any; it names some of them.
    """
    unknown = [
        f"{name} {value.shape}"
        for name, value in values.items()
        if name not in variables or tuple(variables[name].shape) != value.shape
    ]
    if unknown:
        raise ConfigError(
            f"the checkpoint must be of this model. Received: {len(unknown)} arrays that it "
            f"does not have ({', '.join(unknown[:5])}). Use the backbone, head and classes "
            "that the run was started with."
        )


def _seeds(inventory: Inventory) -> dict[str, Any]:
    """Returns the random seeds of the model, which are its variables that are not weights."""
    weights = {id(variable) for variable in inventory.variables.values()}
    seeds = [v for v in inventory.model.variables if id(v) not in weights]
    return {str(index): seed for index, seed in enumerate(seeds)}  # their own names are not stable

"""All values of a run that training changes: to arrays, and back to where they were."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from finetune.backbones import HEAD
from finetune.errors import ConfigError
from finetune.freezing.inventory import Inventory, as_array
from finetune.training.checkpoints import Arrays
from finetune.training.optimizers import OptimizerGroups

log = logging.getLogger(__name__)


class LiveState:
    """The weights, optimizer state and random seeds of one run.

    Args:
        inventory: of the task model.
        optimizers: of the schedule.
        whole: whether weights that never moved are kept too: where they were loaded from is not
            known.
    """

    def __init__(self, inventory: Inventory, optimizers: OptimizerGroups, whole: bool) -> None:
        self._inventory, self._optimizers, self._whole = inventory, optimizers, whole
        weights = {id(each) for each in inventory.variables.values()}
        others = [each for each in inventory.model.variables if id(each) not in weights]
        self._seeds = {str(index): each for index, each in enumerate(others)}  # numbered names

    def arrays(self, moved: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
        """Returns everything: files ``weights``, ``optimizer`` and ``seeds``.

        Args:
            moved: paths of the weights that some phase so far did not hold still. A backbone
                weight that is not among them is where it was loaded from.
        """
        weights = {
            info.path: as_array(self._inventory.variables[info.path])
            for info in self._inventory.infos
            if self._whole or info.stage == HEAD or info.path in moved
        }
        return {
            "weights": weights,
            "optimizer": self._optimizers.state(),
            "seeds": {name: as_array(each) for name, each in self._seeds.items()},
        }

    def load(self, arrays: Arrays) -> None:
        """Puts back what `arrays` returned.

        Raises:
            ConfigError: for weights that this model does not have.
        """
        assign(self._inventory.variables, arrays.get("weights", {}))
        assign(self._seeds, arrays.get("seeds", {}))
        lacking = self._optimizers.load(arrays.get("optimizer", {}))
        if lacking:
            log.warning("%d optimizer slots start over: %s", len(lacking), ", ".join(lacking))


def assign(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    """Puts values into the variables of the same names.

    Raises:
        ConfigError: for values that do not fit.
    """
    require_fitting(variables, values)
    for name, value in values.items():
        variables[name].assign(value)


def require_fitting(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    """Refuses values of variables that this model does not have.

    Raises:
        ConfigError: naming some of them.
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

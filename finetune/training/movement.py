"""How far a phase moves the weights: the other half of the proof that the rest did not change."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finetune.freezing.inventory import Inventory, as_array, to_numpy


class Movement:
    """Remembers the weights at the start of a phase.

    Args:
        inventory: Inventory of the task model's weights.
        moving: Paths of the weights that the phase may change.
        begun: Their values when an earlier process started the phase; None: their current values.
    """

    def __init__(
        self,
        inventory: Inventory,
        moving: Sequence[str],
        begun: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._inventory = inventory
        if begun is None:
            begun = {path: to_numpy(inventory.variables[path]) for path in moving}
        self.begun = dict(begun)
        """Values by path."""

    def by_stage(self) -> dict[str, float]:
        """Returns ‖now − then‖ / ‖then‖ over all weights of each stage, in the order of the stages.

        The value is 0 for a stage none of whose weights may move, which the proof has checked. It is
        infinite for a stage that was all zeros and is not any more.
        """
        infos = self._inventory.infos
        moving = {info.stage for info in infos if info.path in self.begun}
        moved = dict.fromkeys(self._inventory.stage_names, 0.0)
        was = dict(moved)
        for info in infos:
            if info.stage not in moving:
                continue
            now = _as_float(as_array(self._inventory.variables[info.path]))
            then = _as_float(self.begun[info.path]) if info.path in self.begun else now
            moved[info.stage] += _squared(now - then)
            was[info.stage] += _squared(then)
        return {name: _ratio(moved[name], was[name]) for name in moved}


def _as_float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).ravel()


def _squared(values: np.ndarray) -> float:
    return float(np.dot(values, values))


def _ratio(moved: float, was: float) -> float:
    if moved == 0.0:
        return 0.0
    return math.sqrt(moved / was) if was > 0.0 else math.inf

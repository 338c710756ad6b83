"""The best epoch of a phase: whether patience has run out, and which weights to end with."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finetune.freezing.inventory import Inventory, to_numpy
from finetune.schedule.phase import Phase
from finetune.training.monitor import Monitor
from finetune.training.run_state import PhaseState
from finetune.training.variables import require_fitting


class BestEpoch:
    """Follows the monitored metric of a phase: patience, and the weights of the best epoch.

    Args:
        phase: Phase that sets the patience, and whether the best weights are restored.
        monitor: The monitored metric.
        inventory: Inventory of the weights.
        moving: Paths of the weights that the phase may change.
    """

    def __init__(
        self, phase: Phase, monitor: Monitor, inventory: Inventory, moving: Sequence[str]
    ) -> None:
        self._phase, self._monitor = phase, monitor
        self._variables = {path: inventory.variables[path] for path in moving}
        self.value: float | None = None
        """Best value so far, higher is better; None before the first finite one."""
        self.waited = 0
        self.best_epoch: int | None = None
        self.weights: dict[str, np.ndarray] = {}
        """Weights of the best epoch, if the phase restores them."""

    @property
    def out_of_patience(self) -> bool:
        """Whether the phase has waited for an improvement for as long as it may."""
        return self._phase.patience is not None and self.waited >= self._phase.patience

    def update(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Compares an epoch with the best so far; returns whether patience has run out."""
        value = self._monitor.score(logs[f"val_{self._monitor.name}"])
        if math.isfinite(value) and (self.value is None or value > self.value):
            self.value, self.waited, self.best_epoch = value, 0, epoch
            if self._phase.restore_best:
                self.weights = {path: to_numpy(v) for path, v in self._variables.items()}
        else:
            self.waited += 1
        return self.out_of_patience

    def restore(self) -> None:
        """Assigns the weights of the best epoch."""
        for path, value in self.weights.items():
            self._variables[path].assign(value)

    def load(self, state: PhaseState, weights: Mapping[str, np.ndarray]) -> None:
        """Continues from what an earlier process has seen.

        Raises:
            ConfigError: If the phase does not move these weights.
        """
        require_fitting(self._variables, weights)
        self.value, self.waited, self.best_epoch = state.best, state.waited, state.best_epoch
        self.weights = dict(weights)

"""The best epoch of a phase: when patience is out, and which weights to end with."""

import math
from collections.abc import Mapping

import numpy as np

from finetune.freezing.inventory import Inventory, to_numpy
from finetune.schedule.phase import Phase
from finetune.training.keeping import BestState
from finetune.training.live_state import require_fitting


class BestEpoch:
    """Follows a phase's monitored metric: says when patience is out, keeps the best weights.

    Args:
        phase: names the monitor, the patience and whether the best weights are wanted.
        inventory: the weights that are kept.
        moving: paths of the weights that the phase may change.
    """

    def __init__(self, phase: Phase, inventory: Inventory, moving: list[str]) -> None:
        self._phase = phase
        self._variables = {path: inventory.variables[path] for path in moving}
        self._sign = -1.0 if phase.monitor == "loss" else 1.0
        self._best = -math.inf
        self._waited = 0
        self._weights: dict[str, np.ndarray] = {}
        self.best_epoch: int | None = None

    @property
    def out_of_patience(self) -> bool:
        """Whether the phase has waited for an improvement as long as it may."""
        return self._phase.patience is not None and self._waited >= self._phase.patience

    def score(self, logs: Mapping[str, float]) -> float:
        """Returns the monitored metric, higher is better."""
        return self._sign * logs[f"val_{self._phase.monitor}"]

    def update(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Compares this epoch with the best so far; returns whether to stop."""
        value = self.score(logs)
        if value > self._best:
            self._best, self._waited, self.best_epoch = value, 0, epoch
            if self._phase.restore_best:
                self._weights = {path: to_numpy(v) for path, v in self._variables.items()}
        else:
            self._waited += 1
        return self.out_of_patience

    def restore(self) -> None:
        """Puts the best weights back, where the phase asks for that."""
        for path, value in self._weights.items():
            self._variables[path].assign(value)

    def state(self) -> tuple[BestState, dict[str, np.ndarray]]:
        """Returns what a later process needs to go on, the best weights aside, and those."""
        best = None if self.best_epoch is None else self._best
        return BestState(best, self._waited, self.best_epoch), self._weights

    def load(self, state: BestState, weights: Mapping[str, np.ndarray]) -> None:
        """Puts back what `state` returned.

        Raises:
            ConfigError: for weights that this phase does not move.
        """
        require_fitting(self._variables, weights)
        if state.best is not None:
            self._best = state.best
        self._waited, self.best_epoch = state.waited, state.best_epoch
        self._weights = dict(weights)

"""When a run is written down whole, and where it goes on: between processes, nothing is lost."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from finetune.record_files import EPOCH_SECONDS
from finetune.training.checkpoints import Checkpoint, Checkpoints

SAVING_SHARE = 0.1  # of the time, at most, goes into checkpoints after epochs


@dataclass(frozen=True)
class Position:
    """Where a run is.

    Args:
        phase: index of the phase in progress, or of the next one.
        inside: whether it has begun.
        epoch: global number of epochs that are done.
        step: optimizer updates that are done of the epoch after them.
        logs: training metrics of that epoch, where all its updates are done.
    """

    phase: int = 0
    inside: bool = False
    epoch: int = 0
    step: int = 0
    logs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Keeping:
    """How a run is kept.

    Args:
        checkpoints: where to.
        minutes: an epoch that lasts longer is kept in between, each time so many have passed;
            None: only at the end of epochs and phases.
        start: what the run goes on from; None: it begins.
        whole: whether weights that never moved are kept too, see `LiveState`.
    """

    checkpoints: Checkpoints
    minutes: float | None = None
    start: Checkpoint | None = None
    whole: bool = False

    def due_in_epoch(self) -> bool:
        """Whether it is time for a checkpoint in the midst of an epoch."""
        return self.minutes is not None and self._since() >= self.minutes * 60

    def due_after_epoch(self) -> bool:
        """Whether the epoch that has ended took long enough to be worth one.

        An epoch on stored features is over sooner than its checkpoint would be on disk: what is
        lost with it is made again in a moment.
        """
        return self._since() >= max(EPOCH_SECONDS, self.checkpoints.seconds / SAVING_SHARE)

    def save(
        self,
        position: Position,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        state: Mapping[str, Any],
        score: float | None,
    ) -> None:
        """Writes a checkpoint.

        Raises:
            StorageError: for a full disk; the checkpoint before is as it was.
        """
        state = {"position": asdict(position), **state}
        self.checkpoints.save(Checkpoint(arrays, state, score))

    def _since(self) -> float:
        return time.monotonic() - self.checkpoints.saved


def position_of(checkpoint: Checkpoint) -> Position:
    """Returns where the run was when the checkpoint was saved."""
    return Position(**checkpoint.state["position"])


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays whose names start with ``PREFIX:``, without it."""
    start = f"{prefix}:"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays with ``PREFIX:`` before their names; `part` takes it off."""
    return {f"{prefix}:{name}": value for name, value in arrays.items()}

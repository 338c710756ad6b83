"""When a run is written down whole, and where it goes on: between processes, nothing is lost."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from finetune.record.files import EPOCH_SECONDS, to_values
from finetune.record.schema import FeatureDecision, RunRecord
from finetune.storage.typed_json import build
from finetune.training.checkpoints import Arrays, Checkpoint, Checkpoints

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


@dataclass(frozen=True)
class BestState:
    """What `BestEpoch` knows beside the best weights."""

    best: float | None = None
    waited: int = 0
    best_epoch: int | None = None


@dataclass(frozen=True)
class Inside:
    """What a checkpoint says of a phase in progress.

    Args:
        best: the best epoch so far.
        frozen_sha256: digest of all that the phase holds still, as it began.
        num_steps: of an epoch.
        standardised: whether the head is in standardised coordinates.
    """

    best: BestState
    frozen_sha256: str
    num_steps: int
    standardised: bool


@dataclass(frozen=True)
class State:
    """The JSON values of a checkpoint.

    Args:
        position: where the run is.
        record: what it has written down so far.
        features: what has been decided about storing features, by index of the phase.
        inside: of the phase in progress; None between two.
    """

    position: Position
    record: RunRecord
    features: dict[str, FeatureDecision]
    inside: Inside | None = None


@dataclass(frozen=True, eq=False)
class Start:
    """What a run goes on from: a checkpoint whose state has been read; `path` is its directory."""

    arrays: Arrays
    state: State
    score: float | None = None
    path: Path | None = None

    def array_part(self, file: str, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays of a file whose names start with ``PREFIX:``, without it."""
        start = f"{prefix}:"
        arrays = self.arrays.get(file, {})
        return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def start_of(checkpoint: Checkpoint) -> Start:
    """Reads the state of a checkpoint, and whether it can be that of a run.

    Raises:
        ValueError: saying what it cannot be.
    """
    state: State = build(State, checkpoint.state, "state")
    position, phases = state.position, state.record.phases
    if position.phase < 0 or len(phases) != position.phase + position.inside:
        raise ValueError(f"phase {position.phase} of {len(phases)} phases that have begun")
    if position.epoch != sum(phase.epochs_run for phase in phases):
        raise ValueError(f"epoch {position.epoch} is not the sum of those of its phases")
    if position.inside != (state.inside is not None):
        raise ValueError("what is known of a phase in progress does not fit its position")
    num_steps = 0 if state.inside is None else state.inside.num_steps
    if num_steps < position.inside or not 0 <= position.step <= num_steps:
        raise ValueError(f"step {position.step} of {num_steps}")
    if bool(position.logs) != (0 < position.step == num_steps) or not (
        set(position.logs) >= {"loss", "accuracy"} or not position.logs
    ):
        raise ValueError(f"metrics {sorted(position.logs)} at step {position.step} of {num_steps}")
    if not all(key.isdecimal() for key in state.features):
        raise ValueError("features are not by the number of their phase")
    return Start(checkpoint.arrays, state, checkpoint.score, checkpoint.path)


@dataclass(frozen=True, eq=False)
class Keeping:
    """How a run is kept.

    Args:
        checkpoints: where to.
        minutes: an epoch that lasts longer is kept in between, each time so many have passed;
            None: only at the end of epochs and phases.
        start: what the run goes on from; None: it begins.
        changed: called once the run goes on with a config that differs, if only in places; None:
            with the same.
        whole: whether weights that never moved are kept too, see `LiveState`.
    """

    checkpoints: Checkpoints
    minutes: float | None = None
    start: Start | None = None
    changed: Callable[[], object] | None = None
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
        self, state: State, arrays: Mapping[str, Mapping[str, np.ndarray]], score: float | None
    ) -> Path:
        """Writes a checkpoint, and returns its directory.

        Raises:
            StorageError: for a full disk; the checkpoint before is as it was.
        """
        return self.checkpoints.save(Checkpoint(arrays, to_values(state), score))

    def _since(self) -> float:
        return time.monotonic() - self.checkpoints.saved


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays with ``PREFIX:`` before their names; `Start.array_part` takes it off."""
    return {f"{prefix}:{name}": value for name, value in arrays.items()}

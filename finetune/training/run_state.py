"""How far a run is: the JSON values of a checkpoint, and the point from which a run resumes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from finetune.record.schema import FeatureDecision, RunRecord
from finetune.storage.typed_json import build
from finetune.training.checkpoints import Arrays, Checkpoint


@dataclass(frozen=True)
class Position:
    """Position of a run in its schedule.

    Args:
        phase: Index of the current phase, or of the next one between two phases.
        epoch: Number of completed epochs in all phases.
        step: Number of completed optimizer updates in the current epoch.
        logs: Training metrics of the current epoch, once all its updates are completed.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    logs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseState:
    """State of the current phase, apart from its arrays.

    Args:
        best: Best value so far of the monitored metric, higher is better; None before the first
            validation.
        best_epoch: Global number of the epoch with the best value.
        waited: Number of epochs since then.
        frozen_sha256: Digest, at the start of the phase, of all weights that the phase holds.
        num_steps: Optimizer updates in one epoch.
        standardised: Whether the head is in standardised coordinates.
    """

    best: float | None
    best_epoch: int | None
    waited: int
    frozen_sha256: str
    num_steps: int
    standardised: bool


@dataclass(frozen=True)
class RunState:
    """State of a run, apart from its arrays.

    Args:
        position: Position in the schedule.
        phase: State of the current phase; None between two phases.
        decisions: Decisions about storing features, by the index of the phase as text.
        record: Record of the run so far.
    """

    position: Position
    phase: PhaseState | None
    decisions: dict[str, FeatureDecision]
    record: RunRecord


@dataclass(frozen=True, eq=False)
class ResumePoint:
    """A checkpoint from which a run resumes.

    Args:
        state: State of the run.
        arrays: Arrays of the checkpoint, by file and name.
        score: Score of its validation, higher is better; None if there was none.
        path: Directory of the checkpoint.
    """

    state: RunState
    arrays: Arrays
    score: float | None = None
    path: Path | None = None

    def array_part(self, file: str, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays of a file whose names start with ``PREFIX:``, without the prefix."""
        start = f"{prefix}:"
        arrays = self.arrays.get(file, {})
        return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def prefixed(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns arrays with ``PREFIX:`` in front of their names, see `ResumePoint.array_part`."""
    return {f"{prefix}:{name}": value for name, value in arrays.items()}


def resume_point(checkpoint: Checkpoint) -> ResumePoint:
    """Reads a checkpoint and checks that its values agree with each other.

    Raises:
        ValueError: If no run can have written it.
    """
    state: RunState = build(RunState, checkpoint.state, "state")
    position, phases = state.position, state.record.phases
    if position.phase < 0 or len(phases) != position.phase + (state.phase is not None):
        raise ValueError(f"phase {position.phase} of {len(phases)} phases that have started")
    if position.epoch != sum(phase.epochs_run for phase in phases):
        raise ValueError(f"epoch {position.epoch} is not the sum of the epochs of all phases")
    num_steps = 0 if state.phase is None else state.phase.num_steps
    if num_steps < (state.phase is not None) or not 0 <= position.step <= num_steps:
        raise ValueError(f"step {position.step} of {num_steps}")
    if bool(position.logs) != (0 < position.step == num_steps) or not (
        set(position.logs) >= {"loss", "accuracy"} or not position.logs
    ):
        raise ValueError(f"metrics {sorted(position.logs)} at step {position.step} of {num_steps}")
    if not all(key.isdecimal() for key in state.decisions):
        raise ValueError("the keys of the decisions are not indices of phases")
    return ResumePoint(state, checkpoint.arrays, checkpoint.score, checkpoint.path)

"""Writes a run's state at the right moments, so that a process that is killed loses little."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from finetune.record.files import EPOCH_SECONDS, to_values
from finetune.training.checkpoints import Arrays, Checkpoint, Checkpoints
from finetune.training.run_state import ResumePoint, RunState

log = logging.getLogger(__name__)

SAVING_SHARE = 0.1  # largest share of the time that checkpoints after epochs may take


class NoCheckpointer:
    """Writes nothing: the twin of `Checkpointer` for runs that keep no checkpoints."""

    resume_point: ResumePoint | None = None

    def due_in_epoch(self) -> bool:
        """See `Checkpointer`."""
        return False

    def due_after_epoch(self) -> bool:
        """See `Checkpointer`."""
        return False

    def save(
        self,
        snapshot: Callable[[], tuple[RunState, Arrays]],
        score: float | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        """See `Checkpointer`."""

    def loss_seen(self) -> None:
        """See `Checkpointer`."""

    def set_unseen_aside(self) -> None:
        """See `Checkpointer`."""

    def save_changed_config(self) -> bool:
        """See `Checkpointer`."""
        return False


class Checkpointer:
    """Writes the checkpoints of a run.

    Args:
        checkpoints: Where they are written.
        minutes: Time between two checkpoints within an epoch; None: only after epochs and phases.
        resume_point: Checkpoint from which the run resumes; None: the run starts.
        save_config: Writes the config of a run that resumes with a changed one; None: the config
            has not changed.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        minutes: float | None = None,
        resume_point: ResumePoint | None = None,
        save_config: Callable[[], object] | None = None,
    ) -> None:
        self._checkpoints, self._minutes = checkpoints, minutes
        self._save_config = save_config
        self.resume_point = resume_point
        self._unseen: Path | None = None  # a checkpoint of weights whose loss nobody has seen yet
        if resume_point is not None and resume_point.state.position.step:
            self._unseen = resume_point.path

    def due_in_epoch(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        return self._minutes is not None and self._seconds_since_last() >= self._minutes * 60

    def due_after_epoch(self) -> bool:
        """Whether the epoch that has just ended took long enough to be worth a checkpoint.

        An epoch on stored features takes less time than its checkpoint; repeating it costs little.
        """
        return self._seconds_since_last() >= max(
            EPOCH_SECONDS, self._checkpoints.seconds / SAVING_SHARE
        )

    def save(
        self,
        snapshot: Callable[[], tuple[RunState, Arrays]],
        score: float | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        """Writes a checkpoint.

        Args:
            snapshot: Returns the state of the run and its arrays.
            score: Score of a validation with these weights, higher is better; None: not known.
            unseen: Whether no loss of these weights has been computed yet. They may be spoilt by
                the last update, even if all of them are finite.

        Raises:
            StorageError: If the disk is full; earlier checkpoints are not affected.
        """
        state, arrays = snapshot()
        path = self._checkpoints.save(Checkpoint(arrays, to_values(state), score))
        self._unseen = path if unseen else None

    def loss_seen(self) -> None:
        """Notes that the loss of the current weights is finite."""
        self._unseen = None

    def set_unseen_aside(self) -> None:
        """Renames the last checkpoint if no loss of its weights was seen: they may be spoilt."""
        if self._unseen is not None:
            aside = self._unseen.with_name(f"{self._unseen.name}.spoilt")
            log.warning("the loss after checkpoint %s is not finite: it is set aside", aside)
            self._unseen.rename(aside)

    def save_changed_config(self) -> bool:
        """Writes the config of a run that resumes with a changed one; returns whether it did."""
        if self.resume_point is None or self._save_config is None:
            return False
        self._save_config()
        return True

    def _seconds_since_last(self) -> float:
        return time.monotonic() - self._checkpoints.saved

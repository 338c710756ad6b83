"""How far a run is, and how fast it goes in its present phase. Pure."""

from collections.abc import Sequence

from finetune.record.schema import PhaseRecord


class Pace:
    """Counts the steps of a whole run and measures their rate.

    If a phase ends early, its remaining steps leave the total. The rate excludes the first step of
    each phase, which includes the compilation, and includes validation and checkpoints.

    Args:
        num_steps: Optimizer updates per epoch.
        epochs: Planned epochs of each phase, in order.
    """

    def __init__(self, num_steps: int, epochs: Sequence[int]) -> None:
        self._num_steps = num_steps
        self._epochs = list(epochs)
        self.completed = 0
        self._origin: tuple[float, int] | None = None
        self._seconds_a_step: float | None = None

    @property
    def total(self) -> int:
        """Number of steps of the whole run, given the phases that have ended."""
        return self._num_steps * sum(self._epochs)

    def phase_ended(self, phase: PhaseRecord) -> None:
        """Records the end of a phase, which counts with the epochs that it has run."""
        self._epochs[phase.index] = phase.epochs_run
        self.completed = self._num_steps * sum(self._epochs[: phase.index + 1])
        self._origin = None

    def step(self, phase: PhaseRecord, step: int, now: float) -> None:
        """Records an optimizer update; `step` is its number within the epoch, from 0."""
        before = sum(self._epochs[: phase.index]) + phase.epochs_run
        self.completed = self._num_steps * before + step + 1
        if self._origin is None:
            self._origin = (now, self.completed)
        elif self.completed > self._origin[1]:
            seconds, steps = now - self._origin[0], self.completed - self._origin[1]
            self._seconds_a_step = seconds / steps

    @property
    def steps_a_second(self) -> float | None:
        """Steps per second of the current phase, or of the phase before until it is measured."""
        return 1 / self._seconds_a_step if self._seconds_a_step else None


class RowPace:
    """Measures the rate at which the features of rows are computed.

    Args:
        done: Number of rows that are done at the start.
        now: Time of the start in seconds.
    """

    def __init__(self, done: int, now: float) -> None:
        self._origin = (now, done)
        self._last = now
        self.done = self.total = done

    def rows(self, done: int, total: int, now: float) -> None:
        """Records the number of rows that are done, and the total."""
        self.done, self.total, self._last = done, total, now

    @property
    def rows_a_second(self) -> float | None:
        """Rows per second so far; None before it is measured."""
        seconds, rows = self._last - self._origin[0], self.done - self._origin[1]
        return rows / seconds if seconds > 0 and rows > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Returns the seconds that the remaining rows take at this rate; None before it is measured."""
        rate = self.rows_a_second
        if rate is None:
            return None
        return max((self.total - self.done) / rate - (now - self._last), 0.0)

"""How far a run is, and how fast it goes in its present phase. Pure."""

from collections.abc import Sequence

from finetune.record.schema import PhaseRecord


class Pace:
    """Counts the steps of a whole run, and of features being computed, against a clock.

    A phase that ends early takes the steps that it leaves out of the total with it. Of each phase
    the first step is left out of the pace: it compiles. What lies between steps (validation,
    checkpoints) is in it.

    Args:
        num_steps: optimizer updates of an epoch.
        epochs: planned of each phase, in order.
    """

    def __init__(self, num_steps: int, epochs: Sequence[int]) -> None:
        self._num_steps = num_steps
        self._epochs = list(epochs)
        self.completed = 0
        self._origin: tuple[float, int] | None = None
        self._seconds_a_step: float | None = None

    @property
    def total(self) -> int:
        """Steps of the whole run, as far as it is known now."""
        return self._num_steps * sum(self._epochs)

    def phase_ended(self, phase: PhaseRecord) -> None:
        """Notes a phase at its end: it counts with the epochs that it has run."""
        self._epochs[phase.index] = phase.epochs_run
        self.completed = self._num_steps * sum(self._epochs[: phase.index + 1])
        self._origin = None

    def step(self, phase: PhaseRecord, step: int, now: float) -> None:
        """Notes an optimizer update; `step` counts in the epoch from 0."""
        before = sum(self._epochs[: phase.index]) + phase.epochs_run
        self.completed = self._num_steps * before + step + 1
        if self._origin is None:
            self._origin = (now, self.completed)
        elif self.completed > self._origin[1]:
            seconds, steps = now - self._origin[0], self.completed - self._origin[1]
            self._seconds_a_step = seconds / steps

    @property
    def steps_a_second(self) -> float | None:
        """The pace of the present phase; until it has one, that of the phase before."""
        return 1 / self._seconds_a_step if self._seconds_a_step else None


class RowPace:
    """The pace of rows whose features are being computed.

    Args:
        done: rows that are done as it begins.
        now: on the clock.
    """

    def __init__(self, done: int, now: float) -> None:
        self._origin = (now, done)
        self._last = now
        self.done = self.total = done

    def rows(self, done: int, total: int, now: float) -> None:
        """Notes rows that are done, of how many."""
        self.done, self.total, self._last = done, total, now

    @property
    def rows_a_second(self) -> float | None:
        """The pace so far; None: not known yet."""
        seconds, rows = self._last - self._origin[0], self.done - self._origin[1]
        return rows / seconds if seconds > 0 and rows > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Returns how long all rows that are left take at this pace; None: not known yet."""
        rate = self.rows_a_second
        if rate is None:
            return None
        return max((self.total - self.done) / rate - (now - self._last), 0.0)

"""How long a run still takes in all its phases: compiling, training, and what comes after. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Assumed until the run has shown its own: they only have to be of the right order.
_STEP = 0.002  # seconds of a step beside its arithmetic
_UNIT = 3e-10  # seconds of a multiply-add
_COMPILE, _TRACE = 1.0, 0.05  # seconds to compile a step, and more for each weight on its way
_CLOSING = 3.0  # seconds to save the model and write the report
_FLOOR = 0.1  # share of a compilation that is always said to be left of it
_LEAST = 1.0  # seconds: a run that has not ended is never said to take none


@dataclass(frozen=True)
class PhaseCost:
    """What a phase costs, as far as that is known before it runs.

    Args:
        epochs: planned.
        work: multiply-adds of a training example, forward and backward.
        traced: number of weights that a compiled step passes, forward and backward.
    """

    epochs: int
    work: float = 0.0
    traced: float = 0.0


def phase_amount(
    amounts: Mapping[str, float], trained: Mapping[str, float], below: Mapping[str, float]
) -> float:
    """Returns how much of something that each stage has a training step passes.

    Forward it passes all that is not stored, backward all from the output down to the lowest stage
    that trains, and there once more what trains.

    Args:
        amounts: by stage, from input to output.
        trained: share of each stage that trains; a stage that is left out does not.
        below: share of each stage that lies below the cut, and is read from the store.
    """
    total, reached = 0.0, False
    for stage, amount in amounts.items():
        reached = reached or trained.get(stage, 0.0) > 0
        total += amount * (1 - below.get(stage, 0.0) + reached + trained.get(stage, 0.0))
    return total


class Forecast:
    """Follows a run by the clock and extrapolates its later phases by what they cost.

    Args:
        num_steps: optimizer updates of an epoch.
        samples_a_step: training examples of one.
        costs: of each phase, in order.
        prefix: multiply-adds of an example in the pass that computes features.
        closing: multiply-adds of the test split.
    """

    def __init__(
        self,
        num_steps: int,
        samples_a_step: float,
        costs: Sequence[PhaseCost],
        prefix: float = 0.0,
        closing: float = 0.0,
    ) -> None:
        self._num_steps, self._samples = num_steps, samples_a_step
        self._costs = list(costs)
        self._prefix, self._closing = prefix, closing
        self._index, self._done = 0, 0
        self._since: float | None = None  # when what now goes on has begun, or the last step
        self._first: tuple[float, int] | None = None  # step of the present phase
        self._compiled: dict[int, float] = {}
        self._paces: dict[int, float] = {}
        self._unit: float | None = None  # of the pass that computes features
        self._rows_left = 0.0

    def began(self, index: int, now: float) -> None:
        """Notes that a phase begins."""
        self._index, self._done, self._first, self._since = index, 0, None, now

    def rows(self, a_second: float | None, left: float | None, now: float) -> None:
        """Notes the pace at which features are computed, and how long that still takes."""
        self._since, self._rows_left = now, left or 0.0
        if a_second and self._prefix:
            self._unit = 1 / (a_second * self._prefix)

    def step(self, done: int, now: float) -> None:
        """Notes an optimizer update of the present phase, the `done`-th."""
        if self._first is None:
            self._compiled[self._index] = now - (now if self._since is None else self._since)
            self._first = (now, done)
        elif done > self._first[1]:
            self._paces[self._index] = (now - self._first[0]) / (done - self._first[1])
        self._done, self._since, self._rows_left = done, now, 0.0

    def ended(self, index: int, epochs_run: int, now: float) -> None:
        """Notes that a phase has ended, after as many epochs."""
        self._costs[index] = replace(self._costs[index], epochs=epochs_run)
        self.began(index + 1, now)

    def seconds_left(self, now: float) -> float | None:
        """Returns about how long the run still takes; None: nothing has been measured yet."""
        if not self._compiled and self._unit is None:
            return None
        gone = 0.0 if self._since is None else max(now - self._since, 0.0)
        total = max(self._rows_left - gone, 0.0)
        if self._rows_left:
            gone = 0.0
        for index in range(self._index, len(self._costs)):
            steps = self._costs[index].epochs * self._num_steps
            if index > self._index:
                total += self._compile(index) + steps * self._pace(index)
            elif self._first is None:
                compiling = self._compile(index)
                total += max(compiling - gone, _FLOOR * compiling) + steps * self._pace(index)
            else:
                total += max((steps - self._done) * self._pace(index) - gone, 0.0)
        closing = _CLOSING + self._closing * self._seconds_a_unit()
        ended = self._index >= len(self._costs)
        return max(total + closing - (gone if ended else 0.0), _LEAST)

    def _compile(self, index: int) -> float:
        """Returns the seconds of a compilation, at the speed of those before."""
        assumed = sum(self._assumed(each) for each in self._compiled)
        speed = sum(self._compiled.values()) / assumed if assumed else 1.0
        return self._assumed(index) * speed

    def _assumed(self, index: int) -> float:
        return _COMPILE + _TRACE * self._costs[index].traced

    def _pace(self, index: int) -> float:
        """Returns the seconds of a step: measured in this phase, else from what it costs."""
        if index in self._paces:
            return self._paces[index]
        return _STEP + self._costs[index].work * self._samples * self._seconds_a_unit()

    def _seconds_a_unit(self) -> float:
        """Returns the seconds of a multiply-add, from the costliest phase so far, if it tells."""
        costliest = max(self._paces, key=lambda index: self._costs[index].work, default=None)
        if costliest is not None:
            work = self._costs[costliest].work * self._samples
            if work * (self._unit or _UNIT) >= _STEP:
                return max(self._paces[costliest] - _STEP, 0.0) / work
        return _UNIT if self._unit is None else self._unit

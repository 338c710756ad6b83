"""A forecast of the remaining time of a run: compilation, training, test split and saving. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Assumptions until the run has measured its own values. Only their order of magnitude matters.
_STEP = 0.002  # seconds of a step beside its arithmetic
_UNIT = 3e-10  # seconds of a multiply-add
_COMPILE, _TRACE = 1.0, 0.05  # seconds to compile a step, and for each weight that it passes
_CLOSING = 3.0  # seconds to save the model and write the report
_FLOOR = 0.1  # share of a compilation that the forecast always leaves
_LEAST = 1.0  # seconds that the forecast always leaves until the run ends


@dataclass(frozen=True)
class PhaseCost:
    """Costs of a phase that are known before it runs.

    Args:
        epochs: Planned epochs.
        work: Multiply-adds per training example, forward and backward.
        traced: Number of weights that a compiled step passes, forward and backward.
    """

    epochs: int
    work: float = 0.0
    traced: float = 0.0


def phase_amount(
    amounts: Mapping[str, float], trained: Mapping[str, float], below: Mapping[str, float]
) -> float:
    """Returns how much of an amount, given for each stage, a training step passes.

    The forward pass covers everything above the cut. The backward pass covers the stages from the
    output down to the lowest trainable one, and passes their trainable share once more.

    Args:
        amounts: Amount of each stage, from input to output.
        trained: Trainable share of each stage; 0 for stages that are not listed.
        below: Share of each stage below the cut, which is read from the store.
    """
    total, reached = 0.0, False
    for stage, amount in amounts.items():
        reached = reached or trained.get(stage, 0.0) > 0
        total += amount * (1 - below.get(stage, 0.0) + reached + trained.get(stage, 0.0))
    return total


class Forecast:
    """Measures the phases of a run and extrapolates to the later ones in proportion to their costs.

    Args:
        num_steps: Optimizer updates per epoch.
        samples_a_step: Training examples per update.
        costs: Costs of each phase, in order.
        prefix: Multiply-adds per example of the pass that computes features.
        closing: Multiply-adds of the test split.
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
        self._since: float | None = None  # time of the last step or other event
        self._first: tuple[float, int] | None = None  # first step of the current phase
        self._compiled: dict[int, float] = {}
        self._paces: dict[int, float] = {}
        self._unit: float | None = None  # seconds per multiply-add when computing features
        self._rows_left = 0.0

    def began(self, index: int, now: float) -> None:
        """Records the start of a phase."""
        self._index, self._done, self._first, self._since = index, 0, None, now

    def rows(self, a_second: float | None, left: float | None, now: float) -> None:
        """Records the rate at which features are computed, and the seconds that remain for it."""
        self._since, self._rows_left = now, left or 0.0
        if a_second and self._prefix:
            self._unit = 1 / (a_second * self._prefix)

    def step(self, done: int, now: float) -> None:
        """Records the `done`-th optimizer update of the current phase."""
        if self._first is None:
            self._compiled[self._index] = now - (now if self._since is None else self._since)
            self._first = (now, done)
        elif done > self._first[1]:
            self._paces[self._index] = (now - self._first[0]) / (done - self._first[1])
        self._done, self._since, self._rows_left = done, now, 0.0

    def ended(self, index: int, epochs_run: int, now: float) -> None:
        """Records the end of a phase after `epochs_run` epochs."""
        self._costs[index] = replace(self._costs[index], epochs=epochs_run)
        self.began(index + 1, now)

    def seconds_left(self, now: float) -> float | None:
        """Returns the estimated seconds until the run ends; None before anything is measured."""
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
        """Returns the seconds of a compilation, scaled by the speed of earlier ones."""
        assumed = sum(self._assumed(compiled) for compiled in self._compiled)
        speed = sum(self._compiled.values()) / assumed if assumed else 1.0
        return self._assumed(index) * speed

    def _assumed(self, index: int) -> float:
        return _COMPILE + _TRACE * self._costs[index].traced

    def _pace(self, index: int) -> float:
        """Returns the seconds of a step, measured in this phase or else estimated from its cost."""
        if index in self._paces:
            return self._paces[index]
        return _STEP + self._costs[index].work * self._samples * self._seconds_a_unit()

    def _seconds_a_unit(self) -> float:
        """Returns the seconds of a multiply-add, from the costliest phase if that is informative."""
        costliest = max(self._paces, key=lambda index: self._costs[index].work, default=None)
        if costliest is not None:
            work = self._costs[costliest].work * self._samples
            if work * (self._unit or _UNIT) >= _STEP:
                return max(self._paces[costliest] - _STEP, 0.0) / work
        return _UNIT if self._unit is None else self._unit

"""One value of every run: which are best, and whether they differ."""

import math
from dataclasses import dataclass
from typing import TypeGuard

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One value of every run.

    Args:
        key: its name: ``test.accuracy``, or a key of the config.
        values: one a run, in their order; None where a run has none.
        kind: how it is written: text, count, number, percent, seconds or bytes.
        better: high or low; None where neither is.
        judged: whether the best are marked. Runs are chosen by validation: of the test split,
            which would no longer be unseen, and of the time no run is the best.
    """

    key: str
    values: tuple[Value, ...]
    kind: str = "text"
    better: str | None = None
    judged: bool = True

    @property
    def best(self) -> frozenset[int]:
        """The runs that are best; none where all are alike, or there is nothing to be best of."""
        known = {i: float(v) for i, v in enumerate(self.values) if is_number(v)}
        if self.better is None or not self.judged or len(set(known.values())) < 2:
            return frozenset()
        top = (max if self.better == "high" else min)(known.values())
        return frozenset(index for index, value in known.items() if value == top)

    @property
    def differs(self) -> bool:
        """Whether two runs have different values."""
        return any(not same(each, self.values[0]) for each in self.values[1:])


def is_number(value: Value) -> TypeGuard[int | float]:
    """Tells a number that can be compared from all else."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def same(one: Value, other: Value) -> bool:
    """Tells whether two values are alike; 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)

"""Columns of a comparison: one value per run."""

import math
from dataclasses import dataclass
from typing import TypeGuard

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One value per run.

    Args:
        key: Name of the value, such as ``test.accuracy``, or a key of the config.
        values: One value per run in the order of the runs; None if a run has no value.
        kind: Notation of the values: text, count, number, percent, seconds or bytes.
        better: ``high`` or ``low``; None if no value is better than another.
        judged: Whether to mark the best values. Validation metrics are judged. Test metrics are not,
            because choosing a run by them would bias them; times are not, either.
    """

    key: str
    values: tuple[Value, ...]
    kind: str = "text"
    better: str | None = None
    judged: bool = True

    @property
    def best(self) -> frozenset[int]:
        """Indices of the best runs; empty if all values are equal or the column has no best."""
        known = {i: float(v) for i, v in enumerate(self.values) if is_number(v)}
        if self.better is None or not self.judged or len(set(known.values())) < 2:
            return frozenset()
        top = (max if self.better == "high" else min)(known.values())
        return frozenset(index for index, value in known.items() if value == top)

    @property
    def differs(self) -> bool:
        """Whether two runs have different values."""
        return any(not same(value, self.values[0]) for value in self.values[1:])


def is_number(value: Value) -> TypeGuard[int | float]:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def same(one: Value, other: Value) -> bool:
    """Returns whether two values are equal; 1 equals 1.0 but not true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)

"""The weights of a backbone that its files contained, and those that they did not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_SHOWN = 8  # maximum number of weights named in a message


@dataclass(frozen=True)
class Coverage:
    """The weights that a checkpoint contained.

    Args:
        total: Number of weights of the backbone.
        absent: Paths of the weights that are not in the checkpoint; all of them if it was not read.
    """

    total: int
    absent: tuple[str, ...] = ()

    @property
    def loaded(self) -> int:
        """Number of weights that came from the checkpoint."""
        return self.total - len(self.absent)


def coverage_of(backbone: Any, assigned: Iterable[int]) -> Coverage:
    """Returns the coverage, given the ids of the variables that were assigned."""
    filled = set(assigned)
    absent = tuple(weight.path for weight in backbone.weights if id(weight) not in filled)
    return Coverage(len(backbone.weights), absent)


def shown(paths: Iterable[str]) -> str:
    """Returns the paths of weights for a message, shortened to the first few."""
    names = list(paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

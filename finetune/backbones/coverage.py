"""How many weights of a backbone came from its files, and which did not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_SHOWN = 8  # names of weights in a message


@dataclass(frozen=True)
class Coverage:
    """What a checkpoint gave.

    Args:
        total: number of weights of the backbone.
        absent: paths of those that are not in the checkpoint; all of them where it was not read.
    """

    total: int
    absent: tuple[str, ...] = ()

    @property
    def loaded(self) -> int:
        """Number of weights that came from the checkpoint."""
        return self.total - len(self.absent)


def coverage_of(backbone: Any, assigned: Iterable[int]) -> Coverage:
    """Returns what came from the files, given the ids of the variables that were assigned."""
    filled = set(assigned)
    absent = tuple(weight.path for weight in backbone.weights if id(weight) not in filled)
    return Coverage(len(backbone.weights), absent)


def shown(paths: Iterable[str]) -> str:
    """Returns the paths of weights for a message, the first few of many."""
    names = list(paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""How many weights of a backbone came from its files, and which did not."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

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


@contextmanager
def assignments() -> Iterator[set[int]]:
    """Collects the ids of the Keras variables that are assigned inside the block.

    Keras does not say which weights a file filled, and a loader that skips one raises nothing.
    """
    owner = next(cls for cls in keras.Variable.__mro__ if "assign" in vars(cls))
    original: Any = vars(owner)["assign"]
    found: set[int] = set()

    def assign(variable: Any, value: Any) -> Any:
        result = original(variable, value)
        found.add(id(variable))
        return result

    setattr(owner, "assign", assign)  # noqa: B010 - a type checker sees no such attribute
    try:
        yield found
    finally:
        setattr(owner, "assign", original)  # noqa: B010

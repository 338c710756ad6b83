"""Checks of single values: numbers in a range, and names of a closed list."""

import math
from collections.abc import Collection, Iterator

from finetune.errors import unknown_name

MAX_INT = 2**32 - 1  # larger than any count in this program; TensorFlow's integers have 64 bits


def number(where: str, value: float | None, expected: str, ok: bool, fix: str) -> Iterator[str]:
    """Yields what is wrong with a number; None is always valid.

    Args:
        where: Config path of the number.
        value: The number.
        expected: What the number must be, for the message.
        ok: Whether the number is valid.
        fix: A sentence that says what to do.
    """
    if isinstance(value, int) and abs(value) > MAX_INT and ok:
        yield f"{where} must be at most {MAX_INT}. Received: {value}. {fix}"
    elif value is not None and not (ok and math.isfinite(value)):
        yield f"{where} must be {expected}. Received: {value}. {fix}"


def positive(where: str, value: float | None, fix: str) -> Iterator[str]:
    """Yields what is wrong with a number that must be above 0; a count is at least 1."""
    kind = "a whole number of at least 1" if isinstance(value, int) else "a finite number above 0"
    yield from number(where, value, kind, value is not None and value > 0, fix)


def choice(where: str, kind: str, value: str, valid: Collection[str]) -> Iterator[str]:
    """Yields what is wrong with a name of a closed list."""
    if value not in valid:
        yield unknown_name(where, kind, value, valid)

"""Converts JSON values to dataclasses and checks that every value has its declared type."""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Returns a JSON value as the type `kind`.

    Args:
        kind: A dataclass, ``list[…]``, ``dict[str, …]``, a union, a plain type, or Any. A float may
            be written as an integer, or as null if it was not finite.
        value: The value that `json.loads` returned.
        where: The place of the value, for the error.

    Raises:
        ValueError: For the first value that has another type, is missing, or is unknown.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return build(next(choice for choice in inner if choice is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [build(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: build(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and value is None:
        return math.nan
    if kind is float and type(value) is int:
        return float(value)
    if origin is None and type(value) is kind:
        return value
    raise ValueError(f"{where or 'it'} is {_short(value)}, not {kind}")


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where or 'it'} is {_short(value)}, not a mapping")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(value) - set(known))
    lacking = [
        name
        for name, field in known.items()
        if name not in value and field.default is MISSING and field.default_factory is MISSING
    ]
    if unknown or lacking:
        raise ValueError(f"{where or 'it'} has the unknown keys {unknown} and lacks {lacking}")
    return kind(
        **{name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

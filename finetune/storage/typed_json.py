"""From JSON values to dataclasses, with every value of the type that it is declared to be."""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Returns `value` as `kind`.

    Args:
        kind: a dataclass, ``list[…]``, ``dict[str, …]``, a union, a plain type, or Any. A float may
            be written as an integer, and as null where it was not finite.
        value: what `json.loads` returned.
        where: its place, for the error.

    Raises:
        ValueError: naming the first place that is of another type, lacking, or unknown.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return build(next(each for each in inner if each is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [build(inner[0], each, f"{where}[{i}]") for i, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: build(inner[1], each, f"{where}.{key}") for key, each in value.items()}
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
    known = {each.name: each for each in fields(kind)}
    unknown = sorted(set(value) - set(known))
    lacking = [
        name
        for name, each in known.items()
        if name not in value and each.default is MISSING and each.default_factory is MISSING
    ]
    if unknown or lacking:
        raise ValueError(f"{where or 'it'} has {unknown} too much and lacks {lacking}")
    return kind(
        **{name: build(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

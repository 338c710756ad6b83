"""The code of layers that are not Keras' own, as part of what stored features depend on."""

import hashlib
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import keras

from finetune.keras_internals import flatten

_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))
_LIBRARIES = ("keras", "keras_hub", "tensorflow", "numpy", "builtins")  # in the key by version


def code_sha256(operation: Any) -> str | None:
    """Returns a digest of the user's own code that an operation runs; None where it runs none.

    It covers the methods of the operation's class and of its bases, of layers inside it, functions
    that it holds (an activation), and the functions, classes and plain values that these name, one
    by one.
    """
    seen: dict[int, str] = {}
    layers = flatten(operation) if isinstance(operation, keras.Layer) else [operation]
    for each in layers:
        held = [value for value in vars(each).values() if isinstance(value, types.FunctionType)]
        for thing in (type(each), *held):
            _collect(thing, seen)
    if not seen:
        return None
    return hashlib.sha256("\n".join(seen.values()).encode()).hexdigest()


def _collect(thing: Any, seen: dict[int, str]) -> None:
    """Adds the code of a class or function of the user's, and of what it names."""
    if not isinstance(thing, type | types.FunctionType) or id(thing) in seen:
        return
    if (getattr(thing, "__module__", None) or "").split(".")[0] in _LIBRARIES:
        return
    seen[id(thing)] = ""
    if isinstance(thing, type):
        plain = {n: v for n, v in vars(thing).items() if isinstance(v, _PLAIN) and n[:2] != "__"}
        seen[id(thing)] = f"{thing.__qualname__} {sorted((n, repr(v)) for n, v in plain.items())}"
        members = [vars(thing)[name] for name in sorted(vars(thing))]
        functions = [getattr(each, "__func__", getattr(each, "fget", each)) for each in members]
        for each in (*thing.__bases__, *functions):
            _collect(each, seen)
        return
    used = {n: thing.__globals__[n] for n in _names(thing.__code__) if n in thing.__globals__}
    for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
        with suppress(ValueError):  # not filled yet
            used[name] = cell.cell_contents
    values = {name: _constant(each) for name, each in used.items() if isinstance(each, _PLAIN)}
    text = _text(thing.__code__)
    seen[id(thing)] = f"{thing.__qualname__} {thing.__defaults__!r} {sorted(values.items())} {text}"
    for each in used.values():
        _collect(each, seen)


def _text(code: types.CodeType) -> str:
    """Returns byte code and constants: comments and line numbers change nothing."""
    return f"{code.co_code.hex()} {code.co_names} {[_constant(each) for each in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _text(value)
    # The order of a set differs from process to process.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)

"""The digest of a user's own code, since stored features depend on it."""

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
    """Returns a digest of the user's own code that an operation runs; None if it runs none.

    It covers the methods of the operation's class and its bases, those of layers inside it, functions
    that it holds (an activation), and the functions, classes and plain values that all these refer to.
    """
    seen: dict[int, str] = {}
    layers = flatten(operation) if isinstance(operation, keras.Layer) else [operation]
    for layer in layers:
        held = [value for value in vars(layer).values() if isinstance(value, types.FunctionType)]
        for thing in (type(layer), *held):
            _collect(thing, seen)
    if not seen:
        return None
    return hashlib.sha256("\n".join(seen.values()).encode()).hexdigest()


def _collect(thing: Any, seen: dict[int, str]) -> None:
    """Adds the code of a user's class or function, and of all that it refers to."""
    if not isinstance(thing, type | types.FunctionType) or id(thing) in seen:
        return
    if (getattr(thing, "__module__", None) or "").split(".")[0] in _LIBRARIES:
        return
    seen[id(thing)] = ""
    if isinstance(thing, type):
        plain = {n: v for n, v in vars(thing).items() if isinstance(v, _PLAIN) and n[:2] != "__"}
        seen[id(thing)] = f"{thing.__qualname__} {sorted((n, repr(v)) for n, v in plain.items())}"
        members = [vars(thing)[name] for name in sorted(vars(thing))]
        functions = [getattr(m, "__func__", getattr(m, "fget", m)) for m in members]
        for used in (*thing.__bases__, *functions):
            _collect(used, seen)
        return
    named = {n: thing.__globals__[n] for n in _names(thing.__code__) if n in thing.__globals__}
    for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
        with suppress(ValueError):  # not filled yet
            named[name] = cell.cell_contents
    values = {n: _constant(v) for n, v in named.items() if isinstance(v, _PLAIN)}
    text = _text(thing.__code__)
    seen[id(thing)] = f"{thing.__qualname__} {thing.__defaults__!r} {sorted(values.items())} {text}"
    for value in named.values():
        _collect(value, seen)


def _text(code: types.CodeType) -> str:
    """Returns byte code and constants, which do not depend on comments and line numbers."""
    return f"{code.co_code.hex()} {code.co_names} {[_constant(value) for value in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _text(value)
    # The order of a set differs from process to process.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _names(value)

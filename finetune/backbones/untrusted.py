"""Checks of untrusted directories: no code, no links elsewhere, no growth on reading."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from finetune.errors import ConfigError

_MAX_BYTES = 64 << 20  # tokenizers with 250,000 tokens take 17 MB
_MAX_DEPTH = 50
# The only objects that may be nested in the config of a backbone or tokenizer.
_HARMLESS = ("DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy")
# KerasHub saves these as files next to the config; as arguments they may be paths.
ASSETS = ("vocabulary", "merges", "proto")
# Keras reads up to 4 GiB that a compressed file merely declares; weights hardly compress.
_H5_FLOOR, _H5_EXPANSION = 64 << 20, 100
_LARGEST = 10_000_000  # largest size; no backbone embeds more tokens
_DEEPEST = 1_000  # maximum number of layers or blocks, because building takes long
_COUNTS = ("num_layers", "num_hidden_layers", "num_blocks", "depth", "depths", "repeats")


def read_json(file: Path, where: str) -> dict[str, Any]:
    """Returns the mapping in a JSON file.

    Raises:
        ConfigError: If the file contains anything else, is too large or too deep to be read safely,
            repeats a key, or contains a number that is not finite.
    """
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ValueError(f"{size} bytes, more than {_MAX_BYTES}")
        text = file.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_not_finite)
        _require_shallow(value)
        reason = None if isinstance(value, dict) else "is not a mapping"
    except RecursionError:
        value, reason = {}, f"is nested more than {_MAX_DEPTH} levels deep"
    except (ValueError, OSError) as error:
        value, reason = {}, f"is not JSON ({error})"
    if reason is None:
        return value
    raise ConfigError(
        f"{where} must contain a JSON mapping in {file.name}. Received: {file}, which "
        f"{reason}. Download or write it again."
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _not_finite(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return
        level = [
            inner for item in level for inner in (item.values() if isinstance(item, dict) else item)
        ]
    raise RecursionError


def is_of(registered_name: Any, cls: type) -> bool:
    """Returns whether Keras would make an object of the given KerasHub class.

    KerasHub registers its classes under several names, for example ``keras_nlp>BertBackbone``,
    which KerasNLP used. Registered names count, and no module is imported.
    """
    return (
        isinstance(registered_name, str)
        and keras.saving.get_registered_object(registered_name) is cls
    )


def check_objects(value: Mapping[str, Any], expected: type, file: Path, where: str) -> None:
    """Requires that a serialized object is of the expected class and contains no other objects.

    Args:
        value: Object as Keras serializes it.
        expected: KerasHub class.
        file: File that contains it, for the message.
        where: Config path that names the directory, for the message.

    Raises:
        ConfigError: If Keras would make an object of another class, import a module, or read
            another file.
    """
    registered, name = value.get("registered_name"), value.get("class_name")
    if not is_of(registered, expected):
        names = [str(registered)]
    else:
        names = [] if name == str(registered).rpartition(">")[2] else [str(name)]
    names += _foreign_objects(list(value.values()))
    config = value.get("config")
    named = config if isinstance(config, dict) else {}
    names += [f"{key}={named[key]!r}" for key in ASSETS if named.get(key) is not None]
    if names:
        raise ConfigError(
            f"{where} must contain, in {file.name}, "
            f"{keras.saving.get_registered_name(expected)} and no other class. Received: "
            f"{', '.join(names)} in {file}. Save it with KerasHub's save_to_preset."
        )


def _foreign_objects(value: Any) -> Iterator[str]:
    """Yields the nested objects of a config that Keras would make or import."""
    if isinstance(value, dict):
        name, registered = value.get("class_name"), value.get("registered_name")
        module = value.get("module", "keras")
        if "class_name" in value or "registered_name" in value:
            if name not in _HARMLESS:
                yield str(name or registered)
            elif registered not in (None, name):
                yield str(registered)
            elif module != "keras":  # Keras imports the modules of some names
                yield f"{module}.{name}"
        for item in value.values():
            yield from _foreign_objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _foreign_objects(item)


def check_sizes(config: Mapping[str, Any], file: Path, where: str) -> None:
    """Refuses numbers that would fill the memory or build an endless number of layers.

    Raises:
        ConfigError: If there are any; it names the first.
    """
    pending: list[tuple[str, Any]] = list(config.items())
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(key, item) for item in value]
        counts = any(key.endswith(count) for count in _COUNTS)
        most = _DEEPEST if counts else _LARGEST
        size: Any = len(value) if isinstance(value, list) and counts else value
        number = isinstance(size, int | float) and not isinstance(size, bool)
        if number and (not abs(size) <= most):
            raise ConfigError(
                f"{where} must contain, in {file.name}, sizes of at most {most}. Received: "
                f"{key}={size} in {file}. Download or write it again."
            )


def check_h5(file: Path, where: str) -> None:
    """Refuses a weights file that points elsewhere, or declares far more than it contains.

    Raises:
        ConfigError: If it does, or if it is not an HDF5 file.
    """
    try:
        with h5py.File(file, "r") as opened:
            problem = next(_h5_problems(opened, file.stat().st_size), None)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        problem = f"unreadable HDF5 ({' '.join(str(error).split())})"
    if problem is not None:
        raise ConfigError(
            f"{where} must contain, in {file.name}, the weights themselves. Received: {problem} in "
            f"{file}. Check that the file is complete."
        )


def _h5_problems(opened: h5py.File, size: int) -> Iterator[str]:
    declared = 0
    pending: list[Any] = [opened]
    seen: set[Any] = {opened["/"]}  # hard links can make a circle
    while pending:
        group = pending.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(
                link, h5py.HardLink
            ):  # not followed, because that would open its target
                yield f"a {type(link).__name__} at {group.name}/{name}"
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                pending += [item] if item not in seen else []
            elif item.is_virtual or item.external:
                yield f"data in another file at {item.name}"
            else:
                declared += math.prod(item.shape or ()) * item.dtype.itemsize
            seen.add(item)
    if declared > max(_H5_FLOOR, _H5_EXPANSION * size):
        yield f"{declared} bytes of weights in a file of {size}"


def require_inside(directory: Path, files: Iterable[Path], where: str) -> None:
    """Refuses links that lead out of a directory.

    A snapshot in the Hugging Face cache links into the ``blobs`` of its repository, which is
    allowed.

    Raises:
        ConfigError: If there are any; it names the file and its target.
    """
    root = directory.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    for file in files:
        target = file.resolve()
        if not any(target.is_relative_to(root) for root in roots):
            raise ConfigError(
                f"{where} must contain its own files. Received: {file}, a link to {target}. "
                "Copy the file there."
            )

"""Sealed JSON: a file of values with the sha256 of its own content, so that damage is noticed."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

DAMAGES = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Everything that reading a damaged file of JSON, and looking values up in it, can raise."""

Separators = tuple[str, str]
COMPACT: Separators = (",", ":")  # run.json, checkpoints
SPACED: Separators = (", ", ": ")  # stored features
_SEAL = "sha256"


def digest_of(values: Any, separators: Separators = COMPACT) -> str:
    """Returns the sha256 of JSON values, which does not depend on the order of their keys.

    Args:
        values: JSON values.
        separators: What stands between the values in the text that is hashed. Each kind of file keeps
            its own, so that files of earlier versions can be read.
    """
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=separators)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: dict[str, Any], separators: Separators = COMPACT) -> dict[str, Any]:
    """Returns the values with their digest, as they are written to a file."""
    return {**values, _SEAL: digest_of(values, separators)}


def read_sealed(path: Path, separators: Separators = COMPACT) -> dict[str, Any]:
    """Reads a file of sealed values and returns them without their digest.

    Raises:
        FileNotFoundError: If there is no file.
        Exception: One of `DAMAGES`, if the file does not hold what was written.
    """
    require_regular(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop(_SEAL) != digest_of(values, separators):
        raise ValueError("values that do not match its sha256")
    return values


def file_digest(path: Path) -> str:
    """Returns the sha256 of a regular file, which is read in pieces.

    Raises:
        OSError: If the path is anything else, or cannot be read.
    """
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_regular(path: Path) -> None:
    """Refuses files that never end, such as a device or a pipe that nobody writes to.

    Raises:
        OSError: If the path is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("no regular file")

"""The entry points for this program in the metadata of installed packages.

`importlib.metadata.distributions` takes 35 ms for the 180 packages of this program's environment,
and every command that reads a config would wait for it. Most packages have no entry point for this
program, which the bytes of one small file show: reading them takes 3 ms.
"""

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from finetune.errors import first_line

Point = tuple[str, str, Any]
"""Package, version and `importlib.metadata.EntryPoint`."""


@lru_cache(maxsize=4)
def read(_path: tuple[str, ...]) -> tuple[list[Point], list[str]]:
    """Reads the entry points for this program of all packages on the path.

    Args:
        _path: ``sys.path``; another path is read again.

    Returns:
        The entry points, and a line for each package whose entry points cannot be read.
    """
    points: list[Point] = []
    unreadable: list[str] = []
    seen: set[str] = set()
    for directory in _directories():
        from importlib.metadata import Distribution  # 30 ms that most users need not wait for

        distribution = Distribution.at(directory)
        origin = os.path.basename(directory)
        try:
            package, version = distribution.name, distribution.version
            if not package:
                raise ValueError("no name in METADATA")
            if package in seen:  # further down the path, where Python does not look either
                continue
            seen.add(package)
            origin = f"{package} {version}"
            found = [p for p in distribution.entry_points if p.group.startswith("finetune.")]
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            unreadable.append(f"{origin}: unreadable entry points, {said}")
            continue
        points += [(package, version, point) for point in found]
    return points, unreadable


def _directories() -> Iterator[str]:
    """Yields the metadata directories on the path that name a group of this program."""
    for place in sys.path:
        try:
            names = sorted(os.listdir(place or "."))
        except OSError:  # no directory, such as the archive of the standard library
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            directory = os.path.join(place, name)
            try:
                with open(os.path.join(directory, "entry_points.txt"), "rb") as file:
                    if b"[finetune." in file.read():
                        yield directory
            except OSError:  # most packages have no such file
                continue

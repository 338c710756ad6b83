"""Checkpoints on disk: numbered directories, written whole or not at all, with digests of all bytes.

A checkpoint holds named arrays in safetensors files, and one JSON file with everything else and the
sha256 of each file. The last two and the best are kept. It holds no Keras object and no pickle.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from finetune.errors import ConfigError
from finetune.storage import durable
from finetune.storage.durable import fresh_directory, remove_left_over
from finetune.storage.sealed import DAMAGES, file_digest, read_sealed, sealed

log = logging.getLogger(__name__)

FORMAT = 2  # 1 wrote the state of a run in other words
MANIFEST = "checkpoint.json"
KEPT = 2
_NAME = re.compile(r"[0-9]{6}")
T = TypeVar("T")
Arrays = Mapping[str, Mapping[str, np.ndarray]]
"""File (without suffix) -> name -> array; a file without arrays is not written."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run at one moment.

    Args:
        arrays: Weights, optimizer state and other arrays.
        state: JSON values, see `finetune.training.run_state.RunState`.
        score: Score on the validation split, higher is better; None if it was not measured.
        path: Its directory, once it is on disk.
    """

    arrays: Arrays
    state: Mapping[str, Any]
    score: float | None = None
    path: Path | None = None


class Checkpoints:
    """Checkpoints of one run. The caller holds the lock of the run directory.

    Args:
        directory: The run's ``checkpoints``; created by the first save.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._scores: dict[int, float] = {}
        self.seconds = 0.0
        """Duration of the last save."""
        self.saved = time.monotonic()
        """When the last save ended (`time.monotonic`), or when the run started."""

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint and removes those that are no longer kept.

        Raises:
            StorageError: If the disk is full; earlier checkpoints are not affected.
        """
        began = time.monotonic()
        numbers = self._numbers()
        number = numbers[-1] + 1 if numbers else 1
        target = self.directory / f"{number:06d}"
        with fresh_directory(target) as fresh:
            _write(checkpoint, fresh)
        if checkpoint.score is not None:
            self._scores[number] = checkpoint.score
        kept = {number, *numbers[len(numbers) - KEPT + 1 :]}
        if self._scores:
            kept.add(max(self._scores, key=lambda one: (self._scores[one], one)))
        for old in set(numbers) - kept:
            self._scores.pop(old, None)
            shutil.rmtree(self.directory / f"{old:06d}", ignore_errors=True)
        self.saved = time.monotonic()
        self.seconds = self.saved - began
        return target

    def latest(self, read: Callable[[Checkpoint], T]) -> T | None:
        """Reads the last whole checkpoint; sets damaged ones aside, with a line in the log.

        Args:
            read: Reads the state of a checkpoint; raises ValueError if no run can have written it.

        Returns:
            What `read` returned; None if there is no checkpoint yet.

        Raises:
            ConfigError: If there are checkpoints and none of them is whole, or if an earlier
                version wrote them.
        """
        if self.directory.is_dir():
            remove_left_over(self.directory)
        damaged: dict[Path, str] = {}
        found: T | None = None
        for number in reversed(self._numbers()):
            path = self.directory / f"{number:06d}"
            try:
                manifest = _manifest(path)
                score = manifest["score"]
                scores = {} if score is None else {number: float(score)}
                if found is None:
                    found = read(_read(path, manifest))
                self._scores |= scores
            except (*DAMAGES, SafetensorError) as error:
                log.warning("checkpoint %s is damaged: %s", path, error)
                damaged[path] = str(error)
        if found is None and damaged:
            raise ConfigError(
                f"{self.directory} must hold a whole checkpoint. Received: {len(damaged)}, none of "
                f"them: {'; '.join(f'{p.name} ({e})' for p, e in damaged.items())}. Train again in "
                "another directory."
            )
        for path in damaged:
            aside = path.with_name(f"{path.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        return found

    def _numbers(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if _NAME.fullmatch(name))


def _write(checkpoint: Checkpoint, directory: Path) -> None:
    digests = {}
    for name, arrays in checkpoint.arrays.items():
        if not arrays:
            continue
        path = directory / f"{name}.safetensors"
        try:
            save_file({key: np.asarray(a, order="C") for key, a in arrays.items()}, path)
        except SafetensorError as error:  # its own words for what the disk said
            raise _as_os_error(error) from error
        path.chmod(0o644)
        digests[path.name] = file_digest(path)
        durable.between(path)
    manifest = {
        "format": FORMAT,
        "files": digests,
        "score": checkpoint.score,
        "state": dict(checkpoint.state),
    }
    text = json.dumps(sealed(manifest), indent=1)
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def _as_os_error(error: SafetensorError) -> OSError:
    """Returns the OSError that safetensors reports in its message as ``… (os error 28)``."""
    number = str(error).rpartition("os error ")[2].rstrip(')" ')
    if not number.isdecimal():
        return OSError(str(error))
    return OSError(int(number), os.strerror(int(number)))


def _manifest(path: Path) -> dict[str, Any]:
    manifest = read_sealed(path / MANIFEST)
    given = manifest["format"]
    if type(given) is int and 0 < given < FORMAT:
        raise ConfigError(
            f"{path} must be a checkpoint of format {FORMAT}. Received: format {given}, which an "
            "earlier version wrote. Resume the run with that version, or train it again in another "
            "directory."
        )
    if given != FORMAT:
        raise ValueError(f"format {given}; this version reads {FORMAT}")
    return manifest


def _read(path: Path, manifest: Mapping[str, Any]) -> Checkpoint:
    arrays = {}
    for name, digest in manifest["files"].items():
        if Path(name).name != name:
            raise ValueError(f"{name} is not a file name")
        if file_digest(path / name) != digest:
            raise ValueError(f"{name} is not what was written")
        arrays[name.removesuffix(".safetensors")] = load_file(path / name)
    return Checkpoint(arrays, manifest["state"], manifest["score"], path)

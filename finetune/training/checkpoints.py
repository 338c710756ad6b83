"""Checkpoints on disk: numbered directories, each whole or absent, every byte of them checked.

A checkpoint holds named arrays in safetensors files and one JSON file with the rest and the sha256
of each. The last two are kept, and the best. No Keras object and no pickle is in them.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from finetune import durable
from finetune.durable import fresh_directory, remove_left_over
from finetune.errors import ConfigError
from finetune.record_files import digest_of

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "checkpoint.json"
KEPT = 2
Arrays = Mapping[str, Mapping[str, np.ndarray]]
"""File (without suffix) -> name -> array; a file without arrays is not written."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run was at one moment.

    Args:
        arrays: weights, optimizer state and the like.
        state: JSON values: position, record, decisions.
        score: of the validation split just measured, higher is better; None where none was.
    """

    arrays: Arrays
    state: Mapping[str, Any]
    score: float | None = None


class Checkpoints:
    """The checkpoints of one run. Whoever uses them holds the run directory's lock.

    Args:
        directory: the run's ``checkpoints``; made at the first save.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._scores: dict[int, float] = {}
        self.seconds = 0.0
        """What the last save took."""
        self.saved = time.monotonic()
        """When the last save ended; the run's start where there was none."""

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint and removes those that are not kept any more.

        Raises:
            StorageError: for a full disk; every earlier checkpoint is as it was.
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
            kept.add(max(self._scores, key=lambda each: (self._scores[each], each)))
        for each in set(numbers) - kept:
            self._scores.pop(each, None)
            shutil.rmtree(self.directory / f"{each:06d}", ignore_errors=True)
        self.saved = time.monotonic()
        self.seconds = self.saved - began
        return target

    def latest(self) -> Checkpoint | None:
        """Reads the last whole checkpoint; damaged ones are set aside, and the log says so.

        Returns:
            The checkpoint; None where the run has not come to its first one.

        Raises:
            ConfigError: if there are checkpoints, and all of them are damaged.
        """
        if self.directory.is_dir():
            remove_left_over(self.directory)
        damaged: list[str] = []
        found: Checkpoint | None = None
        for number in reversed(self._numbers()):
            path = self.directory / f"{number:06d}"
            try:
                manifest = _manifest(path)
                if found is None:
                    found = _read(path, manifest)
                if manifest["score"] is not None:
                    self._scores[number] = manifest["score"]
            except (ValueError, KeyError, TypeError, FileNotFoundError, SafetensorError) as error:
                log.warning("checkpoint %s is damaged (%s) and set aside", path, error)
                damaged.append(f"{path} ({error})")
                aside = path.with_name(f"{path.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        if found is None and damaged:
            raise ConfigError(
                f"{self.directory} must hold a whole checkpoint. Received: {len(damaged)}, all "
                f"damaged: {'; '.join(damaged)}. Train anew in another directory."
            )
        return found

    def _numbers(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdecimal())


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
        digests[path.name] = _digest(path)
        durable.between(path)
    manifest = {
        "format": FORMAT,
        "files": digests,
        "score": checkpoint.score,
        "state": dict(checkpoint.state),
    }
    text = json.dumps({**manifest, "sha256": digest_of(manifest)}, indent=1)
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def _as_os_error(error: SafetensorError) -> OSError:
    """Returns the OSError that safetensors reports as ``… (os error 28)``."""
    number = str(error).rpartition("os error ")[2].rstrip(')" ')
    if not number.isdecimal():
        return OSError(str(error))
    return OSError(int(number), os.strerror(int(number)))


def _manifest(path: Path) -> dict[str, Any]:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if digest_of({k: v for k, v in manifest.items() if k != "sha256"}) != manifest["sha256"]:
        raise ValueError(f"{MANIFEST} is not what was written")
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}; this version reads {FORMAT}")
    return manifest


def _read(path: Path, manifest: Mapping[str, Any]) -> Checkpoint:
    arrays = {}
    for name, digest in manifest["files"].items():
        if Path(name).name != name:
            raise ValueError(f"{name} is no name of a file")
        if _digest(path / name) != digest:
            raise ValueError(f"{name} is not what was written")
        arrays[name.removesuffix(".safetensors")] = load_file(path / name)
    return Checkpoint(arrays, manifest["state"], manifest["score"])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

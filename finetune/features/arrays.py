"""One entry on disk: a file an array and a manifest; whole or absent, and checked when it is read.

An entry is written beside its place, flushed, and renamed; a process that is killed leaves nothing
that could be read. Readers map the files into memory.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # NumPy's bfloat16
import numpy as np

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ArraySpec:
    """One tensor of an entry: shape of a sample, and the dtype on disk."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample on disk."""
        return int(np.prod(self.shape, dtype=np.int64)) * np_dtype(self.dtype).itemsize


def np_dtype(name: str) -> np.dtype:
    """Returns the NumPy dtype of a name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@dataclass(frozen=True, eq=False)
class Entry:
    """The features of one cut, split and view: one array a tensor, samples first."""

    key: str
    arrays: tuple[np.ndarray, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return sum(each.nbytes for each in self.arrays)


class EntryWriter:
    """Takes the batches of one entry; `commit` puts it in its place. Its maker holds the lock.

    Args:
        target: the directory that the entry will be.
        num_samples: how many samples will be written.
        specs: of each array.
        ingredients: what the key was made of; written down for people.
    """

    def __init__(
        self,
        target: Path,
        num_samples: int,
        specs: Sequence[ArraySpec],
        ingredients: Mapping[str, Any],
    ) -> None:
        self._target = target
        self._fresh = target.with_name(f".{target.name}.{os.getpid()}")
        self._specs = tuple(specs)
        self._num_samples = num_samples
        self._written = 0
        self._ingredients = dict(ingredients)
        for left in target.parent.glob(f".{target.name}.*"):  # of processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        self._fresh.mkdir(parents=True)
        self._files = [(self._fresh / _file(i)).open("wb") for i in range(len(self._specs))]
        self._digests = [hashlib.sha256() for _ in self._specs]

    def write(self, batches: Sequence[np.ndarray]) -> None:
        """Appends one batch of each array.

        Raises:
            ValueError: for a batch of another shape.
            OverflowError: for values that the dtype cannot hold.
        """
        for batch, spec, file, digest in zip(
            batches, self._specs, self._files, self._digests, strict=True
        ):
            if batch.shape[1:] != spec.shape:
                raise ValueError(
                    f"features must have shape {spec.shape}. Received: {batch.shape[1:]}."
                )
            data = _as_dtype(batch, spec.dtype)
            data.tofile(file)
            digest.update(data.view(np.uint8).data)
        self._written += len(batches[0])

    def commit(self) -> None:
        """Flushes and renames; the entry is there, whole, from then on.

        Raises:
            ValueError: if other than the promised number of samples was written.
        """
        if self._written != self._num_samples:
            raise ValueError(f"{self._num_samples} samples must be written. Got {self._written}.")
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        manifest = {
            "format": FORMAT,
            "num_samples": self._num_samples,
            "arrays": [
                {**asdict(spec), "sha256": digest.hexdigest()}
                for spec, digest in zip(self._specs, self._digests, strict=True)
            ],
            "ingredients": self._ingredients,
        }
        with (self._fresh / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        if self._target.exists():  # damaged, or made by a process that held no lock
            discard(self._target)
        self._fresh.rename(self._target)

    def abort(self) -> None:
        """Removes what was written."""
        for file in self._files:
            file.close()
        shutil.rmtree(self._fresh, ignore_errors=True)


def read_entry(path: Path) -> Entry:
    """Maps an entry, after checking every byte of it.

    Raises:
        OSError, ValueError, KeyError, TypeError: for one that is damaged.
    """
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}")
    arrays = []
    for index, each in enumerate(manifest["arrays"]):
        shape = (manifest["num_samples"], *each["shape"])
        with (path / _file(index)).open("rb") as file:  # read, not mapped: it costs no memory
            if hashlib.file_digest(file, "sha256").hexdigest() != each["sha256"]:
                raise ValueError(f"{_file(index)} is not what its manifest says")
        arrays.append(np.memmap(path / _file(index), np_dtype(each["dtype"]), "r", shape=shape))
    return Entry(path.name, tuple(arrays))


def discard(path: Path) -> None:
    """Removes an entry. Renamed first: whoever looks sees all or nothing. Maps stay readable."""
    doomed = path.with_name(f".{path.name}.{os.getpid()}.gone")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _file(index: int) -> str:
    return f"{index}.bin"


def _as_dtype(batch: np.ndarray, dtype: str) -> np.ndarray:
    """Returns `batch` in the dtype on disk; refuses values out of its range."""
    if batch.dtype == np_dtype(dtype):
        return np.ascontiguousarray(batch)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(batch.astype(np_dtype(dtype)))
    overflown = np.isfinite(batch) & ~np.isfinite(narrow.astype(np.float32))
    if overflown.any():
        largest = float(np.abs(batch[overflown]).max())
        raise OverflowError(f"{dtype}, which cannot hold {largest:g}")
    return narrow

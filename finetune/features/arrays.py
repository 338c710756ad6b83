"""One entry on disk: one file for each array, and a manifest; it is checked when it is read.

Its directory is written beside its place and renamed (`finetune.storage.durable`), so that an entry is
whole or absent even if a process is killed. Readers map the files into memory.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes  # NumPy's bfloat16
import numpy as np

from finetune.storage import durable
from finetune.storage.sealed import SPACED, file_digest, read_sealed, sealed

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ArraySpec:
    """One tensor of an entry: the shape of a sample, and the dtype on disk."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample on disk."""
        return int(np.prod(self.shape, dtype=np.int64)) * np_dtype(self.dtype).itemsize


def np_dtype(name: str) -> np.dtype:
    """Returns the NumPy dtype with a name, including bfloat16."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@dataclass(frozen=True, eq=False)
class Entry:
    """The features at one cut of one split and view: one array for each tensor, samples first."""

    key: str
    arrays: tuple[np.ndarray, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return sum(array.nbytes for array in self.arrays)


class EntryWriter:
    """Writes the batches of one entry; only `finish` makes it readable.

    It is a context manager that closes its files.

    Args:
        directory: An empty directory, not yet in the entry's place.
        num_samples: Number of samples that will be written.
        specs: Shape and dtype of each array.
        ingredients: All that the key was made of, written down for people.
    """

    def __init__(
        self,
        directory: Path,
        num_samples: int,
        specs: Sequence[ArraySpec],
        ingredients: Mapping[str, Any],
    ) -> None:
        self._directory = directory
        self._specs = tuple(specs)
        self._num_samples = num_samples
        self._written = 0
        self._ingredients = dict(ingredients)
        # Unbuffered: what does not fit is refused where it is written, and never again on closing.
        self._files = [(directory / _file(i)).open("wb", buffering=0) for i in range(len(specs))]
        self._digests = [hashlib.sha256() for _ in specs]

    def __enter__(self) -> "EntryWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()

    def write(self, batches: Sequence[np.ndarray]) -> None:
        """Appends one batch of each array.

        Raises:
            ValueError: If a batch has another shape.
            OverflowError: If the dtype cannot hold a value.
            OSError: If the disk is full.
        """
        for batch, spec, file, digest in zip(
            batches, self._specs, self._files, self._digests, strict=True
        ):
            if batch.shape[1:] != spec.shape:
                raise ValueError(
                    f"features must have shape {spec.shape}. Received: {batch.shape[1:]}."
                )
            data = _as_dtype(batch, spec.dtype).reshape(-1).view(np.uint8).data
            digest.update(data)
            while data:  # the system may take less than it is given; NumPy's tofile loses why
                data = data[file.write(data) :]
            durable.between(self._directory)
        self._written += len(batches[0])

    def finish(self) -> None:
        """Writes the manifest.

        Raises:
            ValueError: If another number of samples was written than promised.
        """
        if self._written != self._num_samples:
            raise ValueError(f"{self._num_samples} samples must be written. Got {self._written}.")
        manifest = {
            "format": FORMAT,
            "num_samples": self._num_samples,
            "arrays": [
                {**asdict(spec), "sha256": digest.hexdigest()}
                for spec, digest in zip(self._specs, self._digests, strict=True)
            ],
            "ingredients": self._ingredients,
        }
        text = json.dumps(sealed(manifest, SPACED), indent=2)
        (self._directory / MANIFEST).write_text(text, encoding="utf-8")
        durable.between(self._directory)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of an entry.

    Raises:
        Exception: One of `DAMAGES`, if the entry is not what was written.
    """
    manifest = read_sealed(path / MANIFEST, SPACED)
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}")
    return manifest


def read_entry(path: Path) -> Entry:
    """Maps an entry after checking every byte of it.

    Raises:
        Exception: One of `DAMAGES`, if the entry is not what was written.
    """
    manifest = read_manifest(path)
    arrays = []
    for index, spec in enumerate(manifest["arrays"]):
        file, dtype = path / _file(index), np_dtype(spec["dtype"])
        shape = (manifest["num_samples"], *spec["shape"])
        if dtype.hasobject or any(type(size) is not int or size < 1 for size in shape):
            raise ValueError(f"{MANIFEST} has {dtype} of shape {shape}")
        if file.stat().st_size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{file.name} has not the size of {dtype} of shape {shape}")
        if file_digest(file) != spec["sha256"]:  # read and not mapped, which costs no memory
            raise ValueError(f"{file.name} does not match its sha256")
        arrays.append(np.memmap(file, dtype, "r", shape=shape))
    return Entry(path.name, tuple(arrays))


def _file(index: int) -> str:
    return f"{index}.bin"


def _as_dtype(batch: np.ndarray, dtype: str) -> np.ndarray:
    """Returns `batch` in the dtype on disk, and refuses values out of its range."""
    if batch.dtype == np_dtype(dtype):
        return np.ascontiguousarray(batch)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(batch.astype(np_dtype(dtype)))
    overflown = np.isfinite(batch) & ~np.isfinite(narrow.astype(np.float32))
    if overflown.any():
        largest = float(np.abs(batch[overflown]).max())
        raise OverflowError(f"{dtype}, which cannot hold {largest:g}")
    return narrow

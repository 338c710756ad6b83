"""Features on disk: one directory an entry, whole or absent, shared by all runs of a machine.

An entry is named by the sha256 of everything that its numbers depend on. It is written beside its
place, flushed, and renamed; a process that is killed leaves nothing that could be read. Readers map
the files into memory.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import ml_dtypes  # NumPy's bfloat16
import numpy as np

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
_LOCKS = "locks"
_KEY = re.compile(r"[0-9a-f]{64}")
_LEFT_OVER = re.compile(r"\.[0-9a-f]{64}\.\d+(\.gone)?")
_POLL_SECONDS = 0.1


def features_directory(configured: str | None = None) -> Path:
    """Returns where features are stored: as configured, by environment, or in the user's cache."""
    if own := configured or os.environ.get("FINETUNE_FEATURES_DIR"):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "finetune" / "features"


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


def key_of(ingredients: Mapping[str, Any]) -> str:
    """Returns the name of the entry that was made from `ingredients`."""
    text = json.dumps({"format": FORMAT, **ingredients}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Entry:
    """The features of one cut, split and view: one array a tensor, samples first."""

    key: str
    arrays: tuple[np.ndarray, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return sum(each.nbytes for each in self.arrays)


@dataclass(frozen=True)
class EntryInfo:
    """What the catalog lists of an entry; times are seconds since 1970."""

    key: str
    num_bytes: int
    num_samples: int
    used: float
    ingredients: dict[str, Any]


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
            _discard(self._target)
        self._fresh.rename(self._target)

    def abort(self) -> None:
        """Removes what was written."""
        for file in self._files:
            file.close()
        shutil.rmtree(self._fresh, ignore_errors=True)


class Store:
    """The entries below one directory.

    Args:
        directory: made if it is not there.
        max_bytes: budget of all entries together.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._verified: dict[str, Entry] = {}

    def has(self, key: str) -> bool:
        """Tells whether an entry is there, without reading it."""
        return (self.directory / key / MANIFEST).is_file()

    def open(self, key: str) -> Entry | None:
        """Maps an entry, after checking every byte of it once; marks it as just used.

        Returns:
            The entry; None if it is not there, or was damaged and has been removed.
        """
        path = self.directory / key
        if key in self._verified and self.has(key):
            os.utime(path / MANIFEST)
            return self._verified[key]
        if not self.has(key):
            return None
        try:
            entry = _read(path)
            os.utime(path / MANIFEST)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("features %s are damaged (%s) and will be made anew", key[:12], error)
            _discard(path)
            return None
        self._verified[key] = entry
        return entry

    @contextmanager
    def locked(self, keys: Iterable[str], on_wait: Callable[[], None]) -> Iterator[None]:
        """Holds the right to make `keys`, one process of the machine at a time.

        Args:
            keys: of the entries.
            on_wait: called once if another process holds one of them.
        """
        folder = self.directory / _LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        waited = False
        with ExitStack() as stack:
            for key in sorted(set(keys)):  # one order for all, so that none waits in a circle
                lock = filelock.FileLock(folder / f"{key}.lock")
                try:
                    lock.acquire(blocking=False)
                except filelock.Timeout:
                    if not waited:
                        on_wait()
                    waited = True
                    lock.acquire(poll_interval=_POLL_SECONDS)
                stack.callback(lock.release)
            yield

    def writer(
        self,
        key: str,
        num_samples: int,
        specs: Sequence[ArraySpec],
        ingredients: Mapping[str, Any],
    ) -> EntryWriter:
        """Returns what an entry is written with; the caller holds its lock."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._verified.pop(key, None)
        return EntryWriter(self.directory / key, num_samples, specs, ingredients)

    def make_room(self, num_bytes: int, keep: Iterable[str]) -> None:
        """Removes least recently used entries until `num_bytes` more fit the budget.

        Args:
            num_bytes: of what is about to be written.
            keep: keys of entries that stay.
        """
        kept = set(keep)
        entries = sorted(self.entries(), key=lambda each: each.used)
        total = sum(each.num_bytes for each in entries)
        for each in entries:
            if total + num_bytes <= self.max_bytes:
                return
            if each.key not in kept:
                log.info("features %s were used least recently and are removed", each.key[:12])
                self._remove(each.key)
                total -= each.num_bytes

    def entries(self) -> list[EntryInfo]:
        """Lists the entries, damaged ones too; what killed processes left is removed on the way."""
        if not self.directory.is_dir():
            return []
        found = []
        for path in sorted(self.directory.iterdir()):
            if _LEFT_OVER.fullmatch(path.name):
                self._remove_if_orphaned(path)
            elif _KEY.fullmatch(path.name):
                try:
                    found.append(_info(path))
                except FileNotFoundError:
                    continue  # removed by another process just now
        return found

    def _remove_if_orphaned(self, path: Path) -> None:
        """Removes what a process left half-written, unless one is writing it now."""
        (self.directory / _LOCKS).mkdir(exist_ok=True)
        lock = filelock.FileLock(self.directory / _LOCKS / f"{path.name.split('.')[1]}.lock")
        try:
            with lock.acquire(blocking=False):
                shutil.rmtree(path, ignore_errors=True)
        except filelock.Timeout:
            return

    def clear(self) -> int:
        """Removes every entry; returns the bytes that were freed."""
        entries = self.entries()
        for each in entries:
            self._remove(each.key)
        return sum(each.num_bytes for each in entries)

    def _remove(self, key: str) -> None:
        self._verified.pop(key, None)
        _discard(self.directory / key)


def _discard(path: Path) -> None:
    """Removes an entry. Renamed first: whoever looks sees all or nothing. Maps stay readable."""
    doomed = path.with_name(f".{path.name}.{os.getpid()}.gone")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _info(path: Path) -> EntryInfo:
    num_bytes = sum(file.stat().st_size for file in path.iterdir())
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        used = (path / MANIFEST).stat().st_mtime
        num_samples, ingredients = int(manifest["num_samples"]), dict(manifest["ingredients"])
        return EntryInfo(path.name, num_bytes, num_samples, used, ingredients)
    except (OSError, ValueError, KeyError, TypeError):
        return EntryInfo(path.name, num_bytes, 0, path.stat().st_mtime, {"label": "damaged"})


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


def _read(path: Path) -> Entry:
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

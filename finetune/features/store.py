"""All features of a machine: one directory for each entry, shared by all runs, within a budget.

The name of an entry is the sha256 of everything that its numbers depend on.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import psutil

from finetune.errors import ConfigError, StorageError
from finetune.features.arrays import (
    FORMAT,
    MANIFEST,
    ArraySpec,
    Entry,
    EntryWriter,
    read_entry,
    read_manifest,
)
from finetune.launcher import command
from finetune.storage import durable
from finetune.storage.sealed import DAMAGES

log = logging.getLogger(__name__)

LOCKS = "locks"
_KEY = re.compile(r"[0-9a-f]{64}")
_LEFT_OVER = re.compile(r"\.[0-9a-f]{64}\.(new|old)-\d+")  # see `finetune.storage.durable`
_POLL_SECONDS = 0.1


def features_directory(configured: str | None = None) -> Path:
    """Returns the directory of the store: configured, from the environment, or the user's cache."""
    if own := configured or os.environ.get("FINETUNE_FEATURES_DIR"):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "finetune" / "features"


def key_of(ingredients: Mapping[str, Any]) -> str:
    """Returns the name of the entry whose numbers depend on `ingredients`."""
    text = json.dumps({"format": FORMAT, **ingredients}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def require_writable(directory: Path) -> None:
    """Makes the directory of the store, and that of its locks.

    Raises:
        ConfigError: If one of them cannot be made or written.
    """
    try:
        for folder in (directory, directory / LOCKS):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        raise ConfigError(
            f"features.dir must be a directory that can be written. Received: {directory} "
            f"({error}). Set features.dir, or features.cache=never."
        ) from error


@dataclass(frozen=True)
class EntryInfo:
    """An entry as the catalog lists it; times are seconds since 1970."""

    key: str
    num_bytes: int
    num_samples: int
    used: float
    ingredients: dict[str, Any]


class Store:
    """The entries below one directory.

    Args:
        directory: The directory of the store; it is made if it does not exist.
        max_bytes: Budget of all entries together.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._verified: dict[str, Entry] = {}

    def has(self, key: str) -> bool:
        """Tells whether an entry exists, without reading it."""
        return os.path.isfile(self.directory / key / MANIFEST)  # False without permission to look

    def open(self, key: str) -> Entry | None:
        """Maps an entry after checking every byte of it once, and marks it as just used.

        Returns:
            The entry; None if it does not exist, or was damaged and has been removed.
        """
        path = self.directory / key
        if key in self._verified and self.has(key):
            _mark_used(path)
            return self._verified[key]
        if not os.path.lexists(path):
            return None
        try:
            entry = read_entry(path)
        except DAMAGES as error:
            log.warning("features %s are damaged (%s) and will be extracted again", key[:12], error)
            self._remove(key)
            return None
        _mark_used(path)
        self._verified[key] = entry
        return entry

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Names the keys of the config to change if the store cannot be written in the block.

        Raises:
            StorageError: If the disk is full or the store cannot be written.
        """
        try:
            with durable.storing(self.directory):
                yield
        except StorageError as error:
            if not isinstance(error.__cause__, OSError):  # the message says it already
                raise
            raise StorageError(
                f"features.dir must have room and be writable. Received: {self.directory} "
                f"({error.__cause__.strerror}). Free some disk: {command('catalog', 'features', '--clear')}, a lower "
                "features.max_gib, another features.dir, or features.cache=never. Entries that "
                "were stored before are intact."
            ) from error

    @contextmanager
    def locked(self, keys: Iterable[str], on_wait: Callable[[str, str], None]) -> Iterator[None]:
        """Locks `keys` for this process; only one process of the machine makes an entry at a time.

        Args:
            keys: Keys of the entries.
            on_wait: Called with a key that another process holds and the name of that process,
                repeatedly while this one waits; it may raise.
        """
        folder = self.directory / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for key in sorted(set(keys)):  # one order for all, so that none waits in a circle
                path = folder / f"{key}.lock"
                lock = filelock.FileLock(path)
                while not _acquired(lock):
                    on_wait(key, _holder(path))
                    time.sleep(_POLL_SECONDS)
                stack.callback(lock.release)
                with suppress(OSError):  # only people read it
                    path.write_text(f"{os.getpid()}", encoding="utf-8")
            yield

    @contextmanager
    def writer(
        self,
        key: str,
        num_samples: int,
        specs: Sequence[ArraySpec],
        ingredients: Mapping[str, Any],
    ) -> Iterator[EntryWriter]:
        """Yields the writer of an entry, which exists after a block that did not raise.

        The caller holds its lock.

        Raises:
            StorageError: If the disk is full or the store cannot be written.
            ValueError: If another number of samples was written than promised.
        """
        self._verified.pop(key, None)
        for left in self.directory.glob(f".{key}.*"):  # left by processes that were killed
            _delete(left)
        with durable.fresh_directory(self.directory / key) as fresh:
            with EntryWriter(fresh, num_samples, specs, ingredients) as writer:
                yield writer
                writer.finish()

    def make_room(self, num_bytes: int, keep: Iterable[str]) -> None:
        """Removes least recently used entries until `num_bytes` more fit the budget.

        Args:
            num_bytes: Bytes that will be written next.
            keep: Keys of entries that stay.
        """
        kept = set(keep)
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        total = sum(entry.num_bytes for entry in entries)
        for entry in entries:
            if total + num_bytes <= self.max_bytes:
                return
            if entry.key not in kept:
                log.info("features %s were used least recently and are removed", entry.key[:12])
                self._remove(entry.key)
                total -= entry.num_bytes

    def entries(self) -> list[EntryInfo]:
        """Lists all entries, including damaged ones, and removes what killed processes left."""
        if not self.directory.is_dir():
            return []
        found = []
        for path in sorted(self.directory.iterdir()):
            if _LEFT_OVER.fullmatch(path.name):
                self._remove_if_orphaned(path)
            elif _KEY.fullmatch(path.name):
                try:
                    found.append(_info(path))
                except OSError:
                    continue  # another process has just removed it, or it belongs to another user
        return found

    def _remove_if_orphaned(self, path: Path) -> None:
        """Removes a half-written entry, unless a process is writing it now."""
        try:
            (self.directory / LOCKS).mkdir(exist_ok=True)
            lock = filelock.FileLock(self.directory / LOCKS / f"{path.name.split('.')[1]}.lock")
            with lock.acquire(blocking=False):
                _delete(path)
        except (filelock.Timeout, OSError):  # a read-only store is listed too
            return

    def clear(self) -> int:
        """Removes every entry, and returns the number of bytes that were freed.

        Raises:
            StorageError: If the store cannot be written.
        """
        entries = self.entries()
        for entry in entries:
            self._remove(entry.key)
        return sum(entry.num_bytes for entry in entries)

    def _remove(self, key: str) -> None:
        """Removes an entry, renamed first, so that others see all or nothing; maps stay readable."""
        self._verified.pop(key, None)
        doomed = self.directory / f".{key}.old-{os.getpid()}"
        with self.guarded():
            _delete(doomed)
            try:
                (self.directory / key).rename(doomed)
            except FileNotFoundError:
                return
            durable.between(doomed)
            _delete(doomed)


def _acquired(lock: filelock.BaseFileLock) -> bool:
    """Tells whether this process holds the lock now; does not wait."""
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True


def _holder(path: Path) -> str:
    """Returns the name of the process that holds a lock, if it is known."""
    try:
        number = int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "another process"
    return f"process {number}" if psutil.pid_exists(number) else "another process"


def _delete(path: Path) -> None:
    """Removes a directory, or a file or link in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _mark_used(path: Path) -> None:
    with suppress(OSError):  # another user's, or just removed: it is mapped, and stays readable
        os.utime(path / MANIFEST)


def _info(path: Path) -> EntryInfo:
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    num_bytes = sum(file.lstat().st_size for file in files if not file.is_dir())
    try:
        manifest = read_manifest(path)
        used = (path / MANIFEST).stat().st_mtime
        num_samples, ingredients = int(manifest["num_samples"]), dict(manifest["ingredients"])
        return EntryInfo(path.name, num_bytes, num_samples, used, ingredients)
    except DAMAGES:
        return EntryInfo(path.name, num_bytes, 0, path.lstat().st_mtime, {"label": "damaged"})

"""Durable writes: a file or directory is either unchanged or complete, whenever the process dies.

Everything that a run keeps is written here: the record, checkpoints, stored features, the model.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.errors import StorageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
}


def _nothing(path: Path) -> None:
    """Does nothing; tests replace it to kill the process between two steps of a write."""


between: Callable[[Path], None] = _nothing


def write_atomically(path: Path, content: str | bytes) -> None:
    r"""Writes `content` beside `path`, flushes it to disk, and renames it to `path`.

    Bytes of file names that are not valid text are written as ``\udcff``, which JSON reads back.

    Raises:
        StorageError: If the disk is full or the place cannot be written; `path` is unchanged.
    """
    with storing(path):
        fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
        try:
            with fresh.open("wb") as file:
                file.write(_as_bytes(content))
                file.flush()
                os.fsync(file.fileno())
            between(path)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def _as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode(errors="backslashreplace")


@contextmanager
def fresh_directory(target: Path) -> Iterator[Path]:
    """Yields a directory to write into, which becomes `target` at the end of the block.

    Every file in it is flushed before the directory is renamed; the earlier content of `target` is
    removed afterwards. If the block raises, `target` is unchanged.

    Raises:
        StorageError: If the disk is full or the place cannot be written; `target` is unchanged.
    """
    written = target.with_name(f".{target.name}.new-{os.getpid()}")
    replaced = target.with_name(f".{target.name}.old-{os.getpid()}")
    with storing(target):
        try:
            for leftover in (written, replaced):
                shutil.rmtree(leftover, ignore_errors=True)
            written.mkdir(parents=True)
            yield written
            for path in (*written.rglob("*"), written):
                flush(path)
            between(target)
            if target.exists():
                target.rename(replaced)
            try:
                between(target)
                written.rename(target)
            except BaseException:
                if replaced.exists():
                    replaced.rename(target)
                raise
            flush(target.parent)
        finally:
            shutil.rmtree(written, ignore_errors=True)
        between(target)
        shutil.rmtree(replaced, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a directory, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_left_over(directory: Path) -> None:
    """Removes what killed processes left half-written in a directory that nobody writes to now.

    If a process died after it moved a directory aside and before it put the new one in its place, the
    old directory is moved back.
    """
    for path in directory.glob(".*.old-*"):
        target = directory / path.name[1:].rpartition(".old-")[0]
        if not target.exists():
            path.rename(target)
    for path in (*directory.glob(".*.old-*"), *directory.glob(".*.new-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns an OSError of a write into one line that says what cannot be written, and why.

    Raises:
        StorageError: If the disk is full or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        named = storage_error(path, error)
        if named is None:
            raise
        raise named from error


def storage_error(path: Path | str, error: OSError) -> StorageError | None:
    """Returns the error for a full disk or a place that cannot be written; None for any other error."""
    if error.errno in FULL:
        return StorageError(
            f"{path} must have room to be written. Received: {_reason(error)}. Free some disk "
            "space and start the command again; what was written before is intact."
        )
    if error.errno in _UNWRITABLE:
        return StorageError(
            f"{path} must be writable. Received: {_reason(error)}. Change its permissions or "
            "choose another directory."
        )
    return None


def _reason(error: OSError) -> str:
    """Returns the system's own description, without the offsets and addresses that libraries add."""
    return os.strerror(error.errno or 0)

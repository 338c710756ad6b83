"""The run directory: one run writes to it at a time, and none over another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from finetune.durable import storing
from finetune.errors import ConfigError
from finetune.launcher import command

LOCK = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds a directory, made if it is not there, for one run.

    The operating system gives the lock up when the process ends, however it ends.

    Raises:
        ConfigError: if another process, or another run of this one, holds it.
        StorageError: if the directory cannot be made.
    """
    with storing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / LOCK)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise ConfigError(
                f"the run directory must be one that no other run writes to. Received: {directory}, "
                f"which a process holds now (fuser {directory / LOCK} names it). Wait for it to "
                "end, stop it, or choose another directory."
            ) from error
    try:
        yield
    finally:
        lock.release()


def refuse_occupied(directory: Path, key: str, go_on: str | None = None) -> None:
    """Refuses to write a run where another run is.

    Args:
        directory: the run directory, or the one of a sweep.
        key: what named it, for the message.
        go_on: how the run that is there goes on; None: by the command line.

    Raises:
        ConfigError: if `directory`, or a folder directly in it, holds a record.
    """
    for record in (directory / "run.json", *directory.glob("*/run.json")):
        if record.exists():
            raise ConfigError(
                f"{key} must be a directory without a run. Received: {directory} (it holds "
                f"{record.relative_to(directory)}). Choose another directory, move that run away, "
                f"or let it go on: {go_on or command('resume', record.parent)}."
            )

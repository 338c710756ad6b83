"""The run directory: one run writes to it at a time, and a run that never started leaves none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from finetune.errors import ConfigError, StorageError
from finetune.launcher import command
from finetune.storage.durable import storing

LOCK = ".lock"
_DEFAULT_PLACES = ("outputs/*", "outputs/*/*", "multirun/*/*", "multirun/*/*/*")
# Written before a run starts, as are logs.
_PRECEDING = (LOCK, ".hydra", "multirun.yaml", "plots")


@contextmanager
def locked(directory: Path, sweep: Path | None = None) -> Iterator[None]:
    """Locks a directory for one run; creates it if it does not exist.

    The operating system releases the lock when the process ends, however it ends. If the run has not
    started by the end of the block, everything that was written before it is removed, and so are the
    folders that were created for it: a command that fails before it trains leaves nothing behind.

    Args:
        directory: The directory of a run or of a sweep.
        sweep: The directory of the sweep that `directory` is a job of. Everything in it belongs to
            the sweep, even what was written before the lock was taken.

    Raises:
        ConfigError: If another process, or another run of this process, holds the lock.
        StorageError: If the directory cannot be created.
    """
    with storing(directory):
        found, made = _found_and_made(directory, sweep)
    try:
        with storing(directory):
            _make(directory)
            lock = filelock.FileLock(directory / LOCK)
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout as error:
                raise ConfigError(
                    "the run directory must be one that no other run writes to. Received: "
                    f"{directory}, which another process uses (fuser {directory / LOCK} shows which one). "
                    "Wait until it ends, stop it, or choose another directory."
                ) from error
        try:
            yield
        finally:
            _remove_what_precedes_a_run(directory, found)
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # /proc and the like allow no new directories
        raise StorageError(
            f"the run directory must be one that can be created. Received: {directory}, which the "
            "file system refuses to create. Choose another directory."
        ) from error


def _found_and_made(directory: Path, sweep: Path | None) -> tuple[set[str], list[Path]]:
    """Returns the names in a directory, and the folders that must be created, innermost first."""
    if sweep is None:
        made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        return {path.name for path in directory.iterdir()} if directory.is_dir() else set(), made
    made = [folder for folder in (directory, *directory.parents) if sweep in folder.parents]
    return set(), made


def _remove_what_precedes_a_run(directory: Path, found: set[str]) -> None:
    """Removes what was written into a directory, unless a run or a job of a sweep has started."""
    try:
        new = [path for path in directory.iterdir() if path.name not in found]
    except FileNotFoundError:  # somebody has removed it
        return
    if not all(path.name in _PRECEDING or path.suffix == ".log" for path in new):
        return
    for path in sorted(new, key=lambda path: path.name == LOCK):  # the lock last
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def expanded(path: str | Path, what: str) -> Path:
    """Returns a path with a leading ``~`` replaced by the home directory.

    A shell does not replace it in ``KEY=~/…``.

    Args:
        path: The path as typed.
        what: Name of the path in messages.

    Raises:
        ConfigError: If the path names the home of a user who does not exist.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{what} must be below a home directory that exists. Received: {path}. Write the path "
            "in full."
        ) from error


def newest(below: Path) -> Path | None:
    """Returns the newest run directory in the default places, or None if there is none.

    Args:
        below: The directory that holds ``outputs`` and ``multirun``.
    """
    started = {}
    for pattern in _DEFAULT_PLACES:
        for directory in below.glob(pattern):
            for sign in (".hydra/hydra.yaml", "run.json"):  # the first is written once
                if os.path.isfile(directory / sign):
                    started[directory] = (directory / sign).stat().st_mtime_ns
                    break
    return max(started, key=started.__getitem__, default=None)


def refuse_occupied(directory: Path, key: str, resume_by: str | None = None) -> None:
    """Refuses to write a run into a directory that holds another run.

    Args:
        directory: The directory of a run or of a sweep.
        key: The config key that names it, for the message.
        resume_by: How to resume the run that is there; None for the command line's `resume`.

    Raises:
        ConfigError: If `directory`, or a folder directly in it, holds a record.
    """
    for record in (directory / "run.json", *directory.glob("*/run.json")):
        if record.exists():
            raise ConfigError(
                f"{key} must be a directory without a run. Received: {directory} (it holds "
                f"{record.relative_to(directory)}). Choose another directory, move that run away, "
                f"or resume it: {resume_by or command('resume', record.parent)}."
            )

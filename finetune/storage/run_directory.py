"""The run directory: one run writes to it at a time, none over another; no run, no directory."""

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
_PRECEDING = (
    LOCK,
    ".hydra",
    "multirun.yaml",
    "plots",
)  # and logs: what is there before a run begins


@contextmanager
def locked(directory: Path, sweep: Path | None = None) -> Iterator[None]:
    """Holds a directory, made if it is not there, for one run.

    The operating system gives the lock up when the process ends, however it ends. Where nothing has
    been written but what precedes a run when the block ends, that is removed, with the folders that
    were made for it: a command that fails before it trains leaves nothing.

    Args:
        directory: the run directory, or the one of a sweep.
        sweep: the directory of the sweep that `directory` is a job of. Whatever is in it is the
            sweep's own, also what was written before the lock was taken.

    Raises:
        ConfigError: if another process, or another run of this one, holds it.
        StorageError: if the directory cannot be made.
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
                    f"{directory}, which a process holds now (fuser {directory / LOCK} names it). "
                    "Wait for it to end, stop it, or choose another directory."
                ) from error
        try:
            yield
        finally:
            _remove_what_precedes_a_run(directory, found)
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # /proc and the like let nobody make anything
        raise StorageError(
            f"the run directory must be one that can be made. Received: {directory}, which the "
            "file system refuses to make. Choose another directory."
        ) from error


def _found_and_made(directory: Path, sweep: Path | None) -> tuple[set[str], list[Path]]:
    """Returns the names that are in a directory, and the folders to be made, innermost first."""
    if sweep is None:
        made = [each for each in (directory, *directory.parents) if not each.exists()]
        return {each.name for each in directory.iterdir()} if directory.is_dir() else set(), made
    made = [each for each in (directory, *directory.parents) if sweep in each.parents]
    return set(), made


def _remove_what_precedes_a_run(directory: Path, found: set[str]) -> None:
    """Removes what was written into a directory, unless a run, or a job of a sweep, has begun."""
    try:
        new = [each for each in directory.iterdir() if each.name not in found]
    except FileNotFoundError:  # somebody has removed it
        return
    if not all(each.name in _PRECEDING or each.suffix == ".log" for each in new):
        return
    for each in sorted(new, key=lambda path: path.name == LOCK):  # the lock last
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)


def expanded(path: str | Path, what: str) -> Path:
    """Returns a path whose ``~`` is a home directory, which a shell leaves alone in ``KEY=~/…``.

    Args:
        path: as typed.
        what: names it, for the message.

    Raises:
        ConfigError: for the home of a user who does not exist.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{what} must be below a home directory that exists. Received: {path}. Write the path "
            "in full."
        ) from error


def newest(below: Path) -> Path | None:
    """Returns the run directory that was begun last of those in the default places, or None.

    Args:
        below: the directory in which ``outputs`` and ``multirun`` are.
    """
    begun = {}
    for pattern in _DEFAULT_PLACES:
        for directory in below.glob(pattern):
            for sign in (".hydra/hydra.yaml", "run.json"):  # the first is written once
                if os.path.isfile(directory / sign):
                    begun[directory] = (directory / sign).stat().st_mtime_ns
                    break
    return max(begun, key=begun.__getitem__, default=None)


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

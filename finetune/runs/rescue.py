"""A run whose directory is removed while it trains: what it has learned is not lost."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from finetune.config.saved import write_again
from finetune.config.schema import Config
from finetune.errors import StorageError
from finetune.printable import printable

log = logging.getLogger(__name__)


def restore(config: Config | None, directory: Path, console: Console) -> None:
    """Writes what a run directory needs beside the record, once it has been made again.

    Args:
        config: of a run of the command line; None for one of FineTuner, which keeps its own.
        directory: that was removed.
        console: whether it is quiet.
    """
    if config is not None:
        write_again(config, directory)
    for handler in logging.getLogger().handlers:
        gone = isinstance(handler, logging.FileHandler) and not os.path.exists(handler.baseFilename)
        if gone:
            handler.close()  # it opens its file again with the next line
    line = (
        f"{printable(directory)} was removed while the run went on. It has been made again; what was "
        "written there before, such as earlier checkpoints, is lost."
    )
    log.warning(line)
    if not console.quiet:
        print(f"warning: {line}", file=sys.stderr, flush=True)


@contextmanager
def rescued(directory: Path, save: Callable[[Path], None]) -> Iterator[None]:
    """Saves the model elsewhere where the run directory is gone and cannot be made again.

    Args:
        directory: the run directory.
        save: writes the model, with the weights that it has now, into a directory.

    Raises:
        StorageError: saying where the model is.
    """
    try:
        yield
    except (OSError, StorageError) as error:
        if os.path.isfile(directory / "run.json"):
            raise
        place = Path(tempfile.mkdtemp(prefix=f"{directory.name}-")) / "model"
        save(place)
        raise StorageError(
            f"{directory} must stay where it is while a run writes to it. Received: a directory that "
            f"was removed and cannot be made again ({error}). The model, with the weights that it "
            f"had then, is in {place}."
        ) from error

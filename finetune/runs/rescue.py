"""Keeps what a run has learned if its directory is removed while it trains."""

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
    """Writes the files of a run directory that was removed and created again, except the record.

    Args:
        config: Config of a run of the command line; None for a run of `FineTuner`.
        directory: The run directory.
        console: Console of the run; a quiet one suppresses the warning.
    """
    if config is not None:
        write_again(config, directory)
    for handler in logging.getLogger().handlers:
        gone = isinstance(handler, logging.FileHandler) and not os.path.exists(handler.baseFilename)
        if gone:
            handler.close()  # it opens its file again with the next line
    line = (
        f"{printable(directory)} was removed while the run was training. It was created again, but "
        "its earlier files, such as checkpoints, are lost."
    )
    log.warning(line)
    if not console.quiet:
        print(f"warning: {line}", file=sys.stderr, flush=True)


@contextmanager
def rescued(directory: Path, save: Callable[[Path], None]) -> Iterator[None]:
    """Saves the model elsewhere if the run directory is gone and cannot be created again.

    Args:
        directory: The run directory.
        save: Writes the model, with its current weights, to a directory.

    Raises:
        StorageError: If that happened; the message says where the model is.
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
            f"was removed and cannot be created again ({error}). The model, with its weights at that "
            f"moment, is in {place}."
        ) from error

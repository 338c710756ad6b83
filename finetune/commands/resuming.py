"""`resume`: continues a run where it stopped."""

import logging
from pathlib import Path

from rich.console import Console

from finetune.commands.arguments import run_argument, split_options
from finetune.commands.libraries import import_runs
from finetune.errors import ConfigError
from finetune.launcher import PROGRAM
from finetune.printable import LogFormatter, printable
from finetune.startup import STARTED

ALLOW = "--allow-changed"


def resume(arguments: list[str], console: Console) -> int:
    """Continues the run in a directory; a completed run is not changed."""
    flags, given = split_options("resume", arguments, (), flags=(ALLOW,))
    if not given or any("=" not in override for override in given[1:]):
        raise ConfigError(
            f"resume must be given one run directory and, optionally, overrides and {ALLOW}. "
            f"Received: {' '.join(arguments) or 'nothing'}. Write {PROGRAM} resume RUN_DIR."
        )
    from finetune.config.saved import read_saved
    from finetune.config.used_plugins import require_still_there
    from finetune.reporting.trackers.choice import require_installed
    from finetune.runs.resume import read_run
    from finetune.storage.run_directory import locked

    directory, allow_changed = run_argument(given[0], console), ALLOW in flags
    require_still_there(directory, _plugins_of(directory))
    config = read_saved(directory, given[1:])
    require_installed(config.trackers)
    with locked(directory):
        _log_to(directory / "finetune.log")
        interrupted = read_run(directory, config, allow_changed)
        if interrupted is None:
            done = f"{printable(directory)} is completed: there is nothing left to do"
            console.print(done, markup=False, soft_wrap=True)
            return 0
        with console.status("loading TensorFlow"):
            runs = import_runs()
        session = runs.Session(directory, console, STARTED)
        runs.resume(config, session, interrupted, allow_changed)
    return 0


def _plugins_of(directory: Path) -> dict[str, str]:
    """Returns the plug-ins of a run; none where its record is missing or damaged and is rewritten."""
    from finetune.record.files import read_json

    try:
        return read_json(directory / "run.json").plugins
    except (FileNotFoundError, ConfigError):
        return {}


def _log_to(path: Path) -> None:
    """Appends to the log of the run, in the format of configs/hydra/job_logging/file.yaml."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

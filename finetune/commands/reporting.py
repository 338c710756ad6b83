"""`report`: writes the page and the pictures of a run again, from its record."""

import os
import sys
from pathlib import Path

from rich.console import Console

from finetune.commands.arguments import run_argument, split_options
from finetune.commands.failures import block
from finetune.errors import ConfigError
from finetune.launcher import PROGRAM
from finetune.printable import printable


def report(arguments: list[str], console: Console) -> int:
    """Writes report.html and plots/ of a run, finished or not; for a sweep, writes one page."""
    _, given = split_options("report", arguments, ())
    if len(given) != 1:
        raise ConfigError(
            "report must be given one directory of a run or a sweep. Received: "
            f"{' '.join(arguments) or 'nothing'}. Write {PROGRAM} report RUN_DIR."
        )
    from finetune.commands.comparing import runs_below
    from finetune.config.saved import where_to_look

    directory = run_argument(given[0], console)
    if os.path.isfile(directory / "run.json"):  # Path.is_file raises without permission to look
        lines = _of_run(directory, console)
    elif os.path.isdir(directory) and next(runs_below(directory), None) is not None:
        lines = _of_sweep(directory, console)
    else:
        raise ConfigError(
            "RUN_DIR must be the directory of a run, which holds run.json, or one with runs below "
            f"it. Received: {directory}. {where_to_look(directory)}"
        )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, emoji=False)
    return 0


def _of_run(directory: Path, console: Console) -> list[str]:
    from finetune.record.files import read_record
    from finetune.reporting.report import write_report

    record = read_record(directory)
    with console.status("drawing"):
        page, *pictures = write_report(record, directory)
    lines = [f"report    {printable(page)}"]
    if pictures:
        lines.append(f"pictures  {printable(pictures[0].parent)}: {len(pictures)} files")
    return lines


def _of_sweep(directory: Path, console: Console) -> list[str]:
    from finetune.commands.comparing import write_comparison

    with console.status("drawing"):
        page, problems = write_comparison(directory)
    for problem in problems:
        print(block(ConfigError(problem)), file=sys.stderr)
    return [f"report    {printable(page)}"]

"""`report`: writes the page and the pictures of a run anew, from what the run has left."""

import os
from pathlib import Path

from rich.console import Console

from finetune.errors import ConfigError
from finetune.printable import printable


def report(arguments: list[str], console: Console) -> int:
    """Writes report.html and plots/ of a run that is completed, or how far it has come."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise ConfigError(
            "report must be given one run directory. Received: "
            f"{' '.join(arguments) or 'nothing'}. Write python -m finetune report RUN_DIR."
        )
    from finetune.record_files import read_record
    from finetune.reporting.report import write_report
    from finetune.saved_config import where_to_look

    directory = Path(arguments[0])
    if not os.path.isfile(directory / "run.json"):  # pathlib's raises where it may not look
        raise ConfigError(
            "RUN_DIR must be the directory of a run, which holds run.json. Received: "
            f"{directory}. {where_to_look(directory)}"
        )
    record = read_record(directory)
    with console.status("drawing"):
        page, *pictures = write_report(record, directory)
    lines = [f"report    {printable(page)}"]
    if pictures:
        lines.append(f"pictures  {printable(pictures[0].parent)}: {len(pictures)} files")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, emoji=False)
    return 0

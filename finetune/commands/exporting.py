"""`export`: writes the model of a run for another runtime."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from finetune.commands.arguments import run_argument, split_options
from finetune.commands.libraries import import_runs
from finetune.errors import ConfigError
from finetune.inference.completed import read_completed
from finetune.inference.export.formats import FLAG, FORMATS, format_of
from finetune.launcher import PROGRAM
from finetune.printable import printable
from finetune.storage.run_directory import expanded

OUTPUT = "--output"


def export(arguments: list[str], console: Console) -> int:
    """Writes one format, checks it in the runtime of that format, and shows the files."""
    run_directory, name, output = _read(arguments, console)
    target = format_of(name)
    read_completed(run_directory)  # before TensorFlow is imported
    import_runs()
    from finetune.inference.export.exporting import export_run, output_directory

    directory = output_directory(run_directory, target, output)
    with console.status(f"exporting to {name}"):
        done = export_run(run_directory, target, directory)
    _show(console, done, directory)
    return 0


def _read(arguments: list[str], console: Console) -> tuple[Path, str, Path | None]:
    """Returns the run directory, the format, and the output directory."""
    options, places = split_options("export", arguments, (FLAG, OUTPUT))
    if len(places) != 1:
        raise ConfigError(
            f"export must be given one run directory, {FLAG} and, optionally, {OUTPUT}. Received: "
            f"{' '.join(arguments) or 'nothing'}. Write {PROGRAM} export RUN_DIR {FLAG} "
            f"{' | '.join(FORMATS)} [{OUTPUT} DIR]."
        )
    if FLAG not in options:
        raise ConfigError(
            f"{FLAG} must be one of {', '.join(FORMATS)}. Received: nothing. Add {FLAG} keras."
        )
    output = options.get(OUTPUT)
    place = None if output is None else expanded(output, OUTPUT)
    return run_argument(places[0], console), options[FLAG], place


def _show(console: Console, done: Any, directory: Path) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right")
    for name, facts in done.files.items():
        table.add_row(Text(printable(name)), decimal(facts["bytes"]))
    table.add_row("all", decimal(done.num_bytes), style="bold")
    console.print(table)
    parity, interface = done.parity, done.interface
    outputs = ", ".join(port["name"] for port in interface["outputs"])
    lines = [
        "",
        f"inputs   {', '.join(map(_port, interface['inputs']))}",
        f"outputs  {outputs} of the classes in {interface['labels']}",
        f"before   {interface['before']}",
        f"parity   {parity.samples} samples ({parity.source}): largest difference of a probability "
        f"{parity.max_difference:.1e} (at most {parity.tolerance:g}), the same classes on "
        f"{parity.agreement} of {parity.samples}",
        f"written  {directory}",
    ]
    console.print("\n".join(map(printable, lines)), markup=False, soft_wrap=True)


def _port(port: dict[str, Any]) -> str:
    """Returns an input in one line: name, shape, dtype, range."""
    sides = zip(port["axes"], port["shape"], strict=True)
    shape = ", ".join(name if size is None else str(size) for name, size in sides)
    values = f", {port['range'][0]}..{port['range'][1]}" if "range" in port else ""
    return f"{port['name']} ({shape}) {port['dtype']}{values}"

"""`compare`: shows runs side by side, from their records alone; TensorFlow is not imported."""

import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from finetune.commands.arguments import one_of, run_argument, split_options, write_out
from finetune.commands.failures import block
from finetune.errors import ConfigError
from finetune.launcher import PROGRAM
from finetune.printable import printable
from finetune.record.files import read_json, read_record
from finetune.reporting.comparison.compare import Comparison, Run, compare
from finetune.reporting.comparison.texts import tables, to_csv, to_json
from finetune.reporting.terminal.closing import near
from finetune.reporting.terminal.console import UNFOLDED, make_console
from finetune.storage.durable import write_atomically
from finetune.storage.run_directory import expanded

FORMATS = ("table", "json", "csv", "html")
OPTIONS = ("--format", "--output", "--sort")
RECORD = "run.json"


@dataclass(frozen=True)
class Request:
    """Arguments of `compare`."""

    directories: tuple[Path, ...]
    output_format: str = "table"
    output: Path | None = None
    sort: str | None = None


def compare_runs(arguments: list[str], console: Console) -> int:
    """Compares the runs in the directories that are given, and all runs below them."""
    request = _request(arguments, console)
    runs, problems = read_runs(request.directories)
    for problem in problems:
        print(block(ConfigError(problem)), file=sys.stderr)
    if not runs:
        raise ConfigError(
            f"RUN_DIR must be a directory with a run that can be read. Received: "
            f"{', '.join(map(str, request.directories))}. Give one with a {RECORD} in it or below it."
        )
    compared = compare(runs, request.sort)
    if request.output is None:
        _show(compared, request.output_format, problems)
        return 0
    text = _text(compared, request.output_format, problems, request.output.absolute().parent)
    write_atomically(request.output, text)
    written = f"{len(runs)} runs compared in {printable(near(request.output))}"
    console.print(written, markup=False, soft_wrap=True)
    return 0


def read_runs(directories: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Reads runs; a directory that is not a run itself stands for all runs below it.

    Args:
        directories: Directories of runs, or with runs below them.

    Returns:
        The runs in the given order, without repetition, those below a directory in natural order;
        and one line for every run that could not be read.

    Raises:
        ConfigError: If one of the paths is not a directory.
    """
    missing = [str(directory) for directory in directories if not directory.is_dir()]
    if missing:
        raise ConfigError(
            f"RUN_DIR must be the directory of a run, or one with runs below it. Received: "
            f"{', '.join(missing)}. Give the directory that the run printed, without {RECORD}."
        )
    runs: list[Run] = []
    problems: list[str] = []
    known: set[Path] = set()
    for given in directories:
        found = list(runs_below(given))
        if not found:
            problems.append(
                f"{given} must hold a run, or runs below it. Received: no {RECORD}. "
                "Give the directory of a run, or of a sweep."
            )
        for directory in found:
            if directory.resolve() in known:
                continue
            known.add(directory.resolve())
            try:
                runs.append(_read(directory, problems))
            except ConfigError as error:
                problems += error.problems
    return runs, problems


def runs_below(directory: Path) -> Iterator[Path]:
    """Yields the directory itself if it is a run, else the runs below it in natural order."""
    if (directory / RECORD).is_file():
        yield directory
        return
    found = [record.parent for record in directory.rglob(RECORD)]
    shown = [run for run in found if not _hidden(run.relative_to(directory))]
    yield from sorted(shown, key=_natural)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Returns a sort key that puts 9 before 10."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _read(directory: Path, problems: list[str]) -> Run:
    """Reads one run. If only its metrics are damaged, the record is used, and a problem is added."""
    try:
        return Run(directory, read_record(directory))
    except ConfigError as error:
        record = read_json(directory / RECORD)  # raises again unless only the metrics are damaged
        problems += error.problems
        return Run(directory, record)


def write_comparison(directory: Path) -> tuple[Path, list[str]]:
    """Writes ``report.html`` for a directory with runs below it, such as a sweep.

    Returns:
        The file, and one line for every run that could not be read.

    Raises:
        ConfigError: If no run can be read.
        StorageError: If the file cannot be written.
    """
    runs, problems = read_runs([directory])
    if not runs:
        raise ConfigError(problems)
    page = directory / "report.html"
    write_atomically(page, _text(compare(runs), "html", problems, directory))
    return page, problems


def _show(compared: Comparison, output_format: str, problems: Sequence[str]) -> None:
    """Writes to stdout, even if the command is quiet: the comparison is what the user asked for."""
    if output_format != "table":
        write_out(_text(compared, output_format, problems))
        return
    console = make_console()
    for table in tables(compared):
        console.print(table)


def _text(
    compared: Comparison, output_format: str, problems: Sequence[str], folder: Path | None = None
) -> str:
    """Returns a comparison as text; `folder` is the directory of an HTML page, None if unknown."""
    if output_format == "json":
        return to_json(compared, problems)
    if output_format == "csv":
        return to_csv(compared)
    if output_format == "html":
        from finetune.reporting.comparison.page import comparison_page

        return comparison_page(compared, problems, folder)
    written = io.StringIO()
    console = Console(file=written, width=UNFOLDED, force_terminal=False, highlight=False)
    for table in tables(compared):
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _request(arguments: Sequence[str], console: Console) -> Request:
    options, directories = split_options("compare", arguments, OPTIONS)
    if not directories:
        raise ConfigError(
            "compare must be given directories of runs, or that of a sweep. Received: nothing. "
            f"Write {PROGRAM} compare RUN_DIR RUN_DIR."
        )
    given = tuple(run_argument(directory, console) for directory in directories)
    return Request(given, *_output(options), options.get("--sort"))


def _output(options: dict[str, str]) -> tuple[str, Path | None]:
    """Returns the format and the file; the suffix of the file is the default format."""
    output = expanded(options["--output"], "--output") if "--output" in options else None
    suffix = "" if output is None else output.suffix[1:].lower()
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(
            f"--output must be a file in a directory that exists. Received: {output}. Create "
            f"{output.parent} first."
        )
    if "--format" not in options and suffix in FORMATS:
        return suffix, output
    return one_of(options, "--format", "a format", FORMATS), output

"""`predict`: shows the predictions of a trained model for files and texts."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finetune.commands.arguments import one_of, run_argument, split_options, whole_number, write_out
from finetune.commands.libraries import import_quietly
from finetune.config.schema import DEVICES
from finetune.errors import ConfigError
from finetune.inference.completed import kind_of, read_completed
from finetune.inference.examples import (
    STDIN,
    Example,
    Failure,
    Prediction,
    examples_of,
    require_fitting,
)
from finetune.inference.writing import FORMATS, TOP, make_writer
from finetune.launcher import PROGRAM
from finetune.printable import printable
from finetune.record.schema import RunRecord

_BATCH, _LARGEST = 32, 65_536
_OPTIONS = ("--top-k", "--format", "--batch-size", "--device")


@dataclass(frozen=True)
class _Request:
    """Arguments of `predict`.

    Args:
        directory: Directory of the run.
        files: Files, folders, texts, and ``-`` for stdin.
        output_format: Format of the output, one of `FORMATS`.
        top_k: Number of labels to show, as typed; None chooses a number that suits the model.
        batch_size: Number of examples in a batch.
        device: ``auto``, ``cpu`` or ``gpu``.
    """

    directory: Path
    files: tuple[str, ...]
    output_format: str
    top_k: str | None
    batch_size: int
    device: str


def predict(arguments: list[str], console: Console) -> int:
    """Writes the predictions for all examples; returns 1 if some examples could not be read."""
    request = _request(arguments, console)
    record = read_completed(request.directory)
    kind = kind_of(record)
    top_k = _top_k(request.top_k, record)
    require_fitting(kind, request.files)
    column = record.config.get("dataset", {}).get("columns", {}).get("input")
    examples = examples_of(kind, request.files, sys.stdin.buffer, column)
    early, rest = _up_to_the_first(examples)
    for failure in early:
        _report(failure)
    if rest is None:
        if not early:
            raise ConfigError(
                "FILE must hold at least one example. Received: "
                f"{' '.join(request.files)}, without any. Give images, texts or tables with examples."
            )
        if request.output_format == "json":
            write_out("[]\n")  # a program that reads the output gets an array, even an empty one
        return 1
    failed = len(early) + _answer(request, record, top_k, rest, console)
    return 1 if failed else 0


def _request(arguments: list[str], console: Console) -> _Request:
    options, others = split_options("predict", arguments, _OPTIONS)
    if not others:
        raise ConfigError(
            "predict must be given a run directory and files or texts. Received: nothing. "
            f"Write {PROGRAM} predict RUN_DIR FILE…"
        )
    batch = options.get("--batch-size", str(_BATCH))
    return _Request(
        directory=run_argument(others[0], console),
        files=tuple(map(_in_full, others[1:])),
        output_format=one_of(options, "--format", "a format", FORMATS),
        top_k=options.get("--top-k"),
        batch_size=whole_number("--batch-size", batch, 1, _LARGEST, "examples in a batch"),
        device=one_of(options, "--device", "a device", DEVICES),
    )


def _in_full(file: str) -> str:
    """Returns the full path of a file in a home directory; anything else as it is typed."""
    path = os.path.expanduser(file)
    return path if os.path.exists(path) else file


def _top_k(given: str | None, record: RunRecord) -> int | None:
    most = record.dataset.num_classes
    if given is None:
        return None
    return whole_number("--top-k", given, 1, most, "the model has that many labels")


def _up_to_the_first(
    examples: Iterator[Example | Failure],
) -> tuple[list[Failure], Iterator[Example | Failure] | None]:
    """Splits examples before the first one that can be read; without one, TensorFlow is not needed."""
    early: list[Failure] = []
    for example in examples:
        if isinstance(example, Example):
            return early, chain([example], examples)
        early.append(example)
    return early, None


def _answer(
    request: _Request,
    record: RunRecord,
    top_k: int | None,
    examples: Iterable[Example | Failure],
    console: Console,
) -> int:
    """Writes the predictions batch by batch; returns how many examples failed."""
    import_quietly("finetune.inference.predicting")
    from finetune.inference.predicting import Predictor
    from finetune.inference.trained import of_record
    from finetune.training.device import prepare

    deterministic = bool(record.device.get("deterministic", True))
    prepare(request.device, None, deterministic, record.seed)
    trained = of_record(request.directory, record)
    # Somebody who types lines waits for the answer to every one of them.
    typed = STDIN in request.files and sys.stdin.isatty()
    predictor = Predictor(trained, 1 if typed else request.batch_size, 0 if typed else None)
    if top_k is None:  # with multiple labels, any of them may be right
        top_k = len(trained.classes) if trained.multi_label else min(TOP, len(trained.classes))
    writer = make_writer(
        request.output_format, trained.classes, trained.multi_label, top_k, sys.stdout.isatty()
    )
    failed = 0
    with _progress(request, console) as advance:
        write_out(writer.header())
        for answers in predictor(examples):
            write_out(writer.lines([a for a in answers if isinstance(a, Prediction)]))
            failures = [answer for answer in answers if isinstance(answer, Failure)]
            for failure in failures:
                _report(failure)
            failed += len(failures)
            advance(len(answers))
        write_out(writer.footer())
    return failed


@contextmanager
def _progress(request: _Request, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows the progress on stderr if that is a terminal and the predictions go elsewhere."""
    hidden = console.quiet or sys.stdout.isatty() or not sys.stderr.isatty()
    counted = not any(file == STDIN or os.path.isdir(file) for file in request.files)
    progress = Progress(
        TextColumn("predict"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=hidden,
    )
    with progress:
        task = progress.add_task("", total=len(request.files) if counted else None)
        yield lambda number: progress.advance(task, number)


def _report(failure: Failure) -> None:
    print(f"error: {printable(failure.source)}: {printable(failure.reason)}", file=sys.stderr)

"""Turns the arguments of `predict` into a stream of examples, and reports those it cannot read."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from finetune.datasets.bad_samples import text_reason, unreadable
from finetune.datasets.images.files import IMAGE_SUFFIXES, is_image
from finetune.datasets.sources.listing import entries_of
from finetune.datasets.sources.table_files import TABLE_SUFFIXES, TableFile, open_table
from finetune.errors import ConfigError

STDIN = "-"
_PATH_BEGIN = re.compile(r"\.{0,2}/|~\w*/|\\\\|[A-Za-z]:[/\\]")
_SUFFIX = re.compile(r"\w\.[A-Za-z]\w{0,4}$")
TEXT_SUFFIXES = (".txt", *TABLE_SUFFIXES)
ARRAY_SUFFIXES = (".npy",)
_TAKEN = {
    "image": "images and folders of images",
    "text": f"files of texts ({', '.join(TEXT_SUFFIXES)}), and texts in quotes",
    "array": "arrays (.npy)",
}


@dataclass(frozen=True, eq=False)
class Example:
    """One example to predict.

    Args:
        source: Readable name of its origin: a file, or a line or row of one.
        content: Path of an image or array, pixels, a text, or numbers.
    """

    source: str
    content: Any


@dataclass(frozen=True)
class Failure:
    """An example that cannot be read.

    Args:
        source: Origin as in `Example`.
        reason: Reason in a few words.
    """

    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one example.

    Args:
        source: Origin as in `Example`.
        probabilities: (classes,) float64 in [0, 1]. They sum to 1 unless the model is multi-label.
        text: Example of a text model; None for other models.
    """

    source: str
    probabilities: np.ndarray
    text: str | None = None


def require_fitting(kind: str, arguments: Sequence[str]) -> None:
    """Refuses arguments whose names show that they are of another kind than the model's examples.

    Args:
        kind: Kind of examples that the model takes: ``image``, ``text`` or ``array``.
        arguments: Files, folders, texts, and ``-`` for the lines of stdin.

    Raises:
        ConfigError: If there is no argument, or if arguments are of another kind; the message names
            them.
    """
    hint = {
        "image": f"To pass many file names, pipe them to stdin: ls | … {STDIN}.",
        "text": f"To pass other texts, write one per line to stdin: … {STDIN} < FILE.",
        "array": "Or call finetune.load(RUN_DIR).predict(inputs) in Python.",
    }[kind]
    if not arguments:
        raise ConfigError(
            f"FILE must be given: the model takes {_TAKEN[kind]}. Received: nothing. {hint}"
        )
    problems = [
        f"FILE must be of the kind that the model takes: {_TAKEN[kind]}. Received: {shown}. {hint}"
        for argument in arguments
        if (shown := _misfit(kind, argument)) is not None
    ]
    if problems:
        raise ConfigError(problems)


def _misfit(kind: str, argument: str) -> str | None:
    """Returns an argument with the reason why it does not fit; None if it fits or must be tried."""
    if argument == STDIN or _is_text(kind, argument):
        return None
    if not os.path.lexists(argument):
        if kind == "text" and os.path.splitext(argument)[1].lower() not in TEXT_SUFFIXES:
            return f"{argument} (it looks like a path, but there is no such file)"
        if not _like_path(argument):
            return f"{argument} (there is no such file, and the model takes no texts)"
    return None if _fits(kind, argument) else argument


def _is_text(kind: str, argument: str) -> bool:
    """Returns whether an argument is a text to predict; a file of that name takes precedence."""
    if kind != "text" or argument == STDIN:
        return False
    return not os.path.lexists(argument) and not _like_path(argument)


def _like_path(argument: str) -> bool:
    """Returns whether the name of a file that does not exist has the form or suffix of a path."""
    if _PATH_BEGIN.match(argument):
        return True
    suffix = os.path.splitext(argument)[1].lower()
    if suffix in (*TEXT_SUFFIXES, *ARRAY_SUFFIXES, *IMAGE_SUFFIXES):
        return True
    # One word with a separator or any suffix is a path; two or more words are a sentence.
    one_word = len(argument.split()) == 1
    return one_word and ("/" in argument or "\\" in argument or bool(_SUFFIX.search(argument)))


def _fits(kind: str, argument: str) -> bool:
    if os.path.isdir(argument):
        return kind == "image"
    suffix = os.path.splitext(argument)[1].lower()
    if kind == "image":  # the content decides, unless the name says that it is not an image
        return suffix not in (*TEXT_SUFFIXES, *ARRAY_SUFFIXES)
    if kind == "text":  # a file without a suffix may hold texts
        return suffix in (*TEXT_SUFFIXES, "")
    return suffix in ARRAY_SUFFIXES


def examples_of(
    kind: str, arguments: Sequence[str], stdin: BinaryIO, column: str | None = None
) -> Iterator[Example | Failure]:
    """Yields the examples of each argument in order, and opens each file when its turn comes.

    Args:
        kind: Kind of examples that the model takes.
        arguments: Arguments that `require_fitting` accepts. A folder stands for the images in it at
            any depth, sorted by name, without hidden ones. A ``.txt`` file holds one text per
            non-empty line, a table one text per row. A text model also takes the text itself.
        stdin: Binary stream with one text per line, or one file name per line for other models.
        column: Column of the texts in a table; a table without it is read by its column ``text``.
    """
    for number, argument in enumerate(arguments, start=1):
        if _is_text(kind, argument):
            reason = text_reason(argument)
            source = f"argument:{number}"
            yield Example(source, argument) if reason is None else Failure(source, reason)
        elif argument == STDIN:
            texts = _lines("stdin", stdin)
            yield from texts if kind == "text" else _named(texts)
        elif kind == "text":
            yield from _texts(argument, column)
        elif os.path.isdir(argument):
            yield from _images_below(Path(argument))
        else:
            yield _file(argument)


def _file(name: str) -> Example | Failure:
    try:
        os.stat(name)
    except (OSError, ValueError) as error:
        return Failure(name, unreadable(error))
    return Example(name, Path(name))


def _named(lines: Iterable[Example | Failure]) -> Iterator[Example | Failure]:
    for line in lines:
        yield line if isinstance(line, Failure) else _file(line.content)


def _images_below(
    folder: Path, above: frozenset[tuple[int, int]] = frozenset(), inner: bool = False
) -> Iterator[Example | Failure]:
    try:
        status = folder.stat()
        entries = sorted(entries_of(folder), key=lambda pair: pair[0].name)
    except OSError as error:
        yield Failure(str(folder), unreadable(error))
        return
    own = (status.st_dev, status.st_ino)
    if own in above:
        yield Failure(str(folder), "a link to a folder that contains it")
        return
    empty = True
    for entry, is_folder in entries:
        if is_folder:
            found = _images_below(folder / entry.name, above | {own}, inner=True)
        elif is_image(entry.path):
            found = iter([_file(str(folder / entry.name))])
        else:
            continue
        for example in found:
            empty = False
            yield example
    if empty and not inner:
        yield Failure(str(folder), "the folder holds no image")


def _texts(name: str, column: str | None) -> Iterator[Example | Failure]:
    path = Path(name)
    try:
        if path.suffix.lower() in TABLE_SUFFIXES:
            yield from _rows(name, open_table(path), column)
        else:
            with path.open("rb") as file:
                yield from _lines(name, file)
    except OSError as error:
        yield Failure(name, unreadable(error))
    except ConfigError as error:
        yield Failure(name, " ".join(error.problems))


def _lines(name: str, file: BinaryIO) -> Iterator[Example | Failure]:
    """Yields the non-empty lines without a byte order mark."""
    for number, line in enumerate(file, start=1):
        source = f"{name}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield Failure(source, "not UTF-8")
            continue
        if text.strip():
            reason = text_reason(text)
            yield Example(source, text) if reason is None else Failure(source, reason)


def _rows(name: str, table: TableFile, column: str | None) -> Iterator[Example | Failure]:
    chosen = next((name for name in (column, "text") if name in table.columns), None)
    if chosen is None:
        yield Failure(name, f"no column {column or 'text'}; it has {', '.join(table.columns)}")
        return
    rows = table.read([chosen])
    values: dict[int, Any] = dict(zip(rows.numbers, rows.columns[chosen], strict=True))
    bad = dict(rows.bad)
    for number in sorted({*values, *bad}):
        reason = bad[number] if number in bad else text_reason(values[number])
        source = f"{name}:{number}"
        yield Example(source, values[number]) if reason is None else Failure(source, reason)

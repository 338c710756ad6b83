"""From the arguments of `predict` to a stream of examples; what cannot be one is named and passed by."""

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
    """Something that a model is asked about.

    Args:
        source: where it comes from, for people: a file, or a line or row of one.
        content: the path of an image or of an array, pixels, a text, or numbers.
    """

    source: str
    content: Any


@dataclass(frozen=True)
class Failure:
    """Something that a model cannot be asked about.

    Args:
        source: as in `Example`.
        reason: in a few words.
    """

    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of an example.

    Args:
        source: as in `Example`.
        probabilities: (classes,) float64 in [0, 1]; of one label they sum to 1.
        text: the example, where it is one.
    """

    source: str
    probabilities: np.ndarray
    text: str | None = None


def require_fitting(kind: str, arguments: Sequence[str]) -> None:
    """Refuses arguments that are of another kind than the model's examples, by their names.

    Args:
        kind: of the examples that the model takes: ``image``, ``text`` or ``array``.
        arguments: files, folders, texts, and ``-`` for the lines of stdin.

    Raises:
        ConfigError: for no argument, or naming each that is of another kind.
    """
    hint = {
        "image": f"The names of many files may come on stdin: ls | … {STDIN}.",
        "text": f"Other texts may come on stdin, one a line: … {STDIN} < FILE.",
        "array": "Or call finetune.load(RUN_DIR).predict(inputs) in Python.",
    }[kind]
    if not arguments:
        raise ConfigError(
            f"FILE must be given: the model takes {_TAKEN[kind]}. Received: nothing. {hint}"
        )
    problems = [
        f"FILE must be of the kind that the model takes: {_TAKEN[kind]}. Received: {shown}. {hint}"
        for each in arguments
        if (shown := _misfit(kind, each)) is not None
    ]
    if problems:
        raise ConfigError(problems)


def _misfit(kind: str, argument: str) -> str | None:
    """Returns an argument with what is wrong about it; None where it fits, or is to be tried."""
    if argument == STDIN or _is_text(kind, argument):
        return None
    if not os.path.lexists(argument):
        if kind == "text" and os.path.splitext(argument)[1].lower() not in TEXT_SUFFIXES:
            return f"{argument} (it looks like a path, and nothing is there)"
        if not _like_path(argument):
            return f"{argument} (no file has this name, and the model takes no texts)"
    return None if _fits(kind, argument) else argument


def _is_text(kind: str, argument: str) -> bool:
    """Whether an argument is itself what a model of texts is asked about; a file of its name wins."""
    if kind != "text" or argument == STDIN:
        return False
    return not os.path.lexists(argument) and not _like_path(argument)


def _like_path(argument: str) -> bool:
    """Whether a name, of which there is no file, is meant for one: by its form or its suffix."""
    if _PATH_BEGIN.match(argument):
        return True
    suffix = os.path.splitext(argument)[1].lower()
    if suffix in (*TEXT_SUFFIXES, *ARRAY_SUFFIXES, *IMAGE_SUFFIXES):
        return True
    # One word with a separator or with any suffix; of several words it is a sentence.
    one_word = len(argument.split()) == 1
    return one_word and ("/" in argument or "\\" in argument or bool(_SUFFIX.search(argument)))


def _fits(kind: str, argument: str) -> bool:
    if os.path.isdir(argument):
        return kind == "image"
    suffix = os.path.splitext(argument)[1].lower()
    if kind == "image":  # what is in a file counts, unless its name says that it is no image
        return suffix not in (*TEXT_SUFFIXES, *ARRAY_SUFFIXES)
    if kind == "text":  # without a suffix it may be any text
        return suffix in (*TEXT_SUFFIXES, "")
    return suffix in ARRAY_SUFFIXES


def examples_of(
    kind: str, arguments: Sequence[str], stdin: BinaryIO, column: str | None = None
) -> Iterator[Example | Failure]:
    """Yields the examples of each argument, in order; files are opened as they are come to.

    Args:
        kind: of the examples that the model takes.
        arguments: that are fitting. A folder gives the images in it at any depth, by name, where
            names that begin with a dot do not count; ``.txt`` one text a line, empty lines none; a
            table one text a row. Of a model of texts an argument can be a text itself.
        stdin: bytes; its lines are texts, or of other models names of files.
        column: of the texts, in a table that has it; else ``text``.
    """
    for number, each in enumerate(arguments, start=1):
        if _is_text(kind, each):
            reason = text_reason(each)
            source = f"argument:{number}"
            yield Example(source, each) if reason is None else Failure(source, reason)
        elif each == STDIN:
            texts = _lines("stdin", stdin)
            yield from texts if kind == "text" else _named(texts)
        elif kind == "text":
            yield from _texts(each, column)
        elif os.path.isdir(each):
            yield from _images_below(Path(each))
        else:
            yield _file(each)


def _file(name: str) -> Example | Failure:
    try:
        os.stat(name)
    except (OSError, ValueError) as error:
        return Failure(name, unreadable(error))
    return Example(name, Path(name))


def _named(lines: Iterable[Example | Failure]) -> Iterator[Example | Failure]:
    for each in lines:
        yield each if isinstance(each, Failure) else _file(each.content)


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
        yield Failure(str(folder), "a link to a folder that it is in")
        return
    empty = True
    for entry, is_folder in entries:
        if is_folder:
            found = _images_below(folder / entry.name, above | {own}, inner=True)
        elif is_image(entry.path):
            found = iter([_file(str(folder / entry.name))])
        else:
            continue
        for each in found:
            empty = False
            yield each
    if empty and not inner:
        yield Failure(str(folder), "no image in it")


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
    """Yields the lines that are not empty, without a byte order mark."""
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
    chosen = next((each for each in (column, "text") if each in table.columns), None)
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

"""CSV, TSV, JSON Lines and Parquet files to columns of plain values, with no type guessed."""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

_QUOTING = (
    "Put a value that has a delimiter, a newline or a quote in it in double quotes, and double "
    "the quotes in it."
)
_NUL = (
    "Save it in UTF-8; UTF-16 without a byte order mark looks like this: iconv -f UTF-16LE -t "
    "UTF-8 OLD > NEW."
)
_MARKS = {  # the longer ones first: that of UTF-16 begins that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Columns = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows of some columns.

    Args:
        columns: by name, each a list of one value a row; None where there is none.
        numbers: of the rows, from 1: the line each begins in, of Parquet the row.
        bad: number and reason of what is no row.
    """

    columns: Columns
    numbers: list[int]
    bad: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TableFile:
    """An opened table.

    Args:
        path: of the file.
        columns: names, in the order of the file.
        read: rows of the columns that are named.
        unit: what its rows are numbered by: line or row.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], TableRows]
    unit: str = "line"


def open_table(path: Path) -> TableFile:
    """Opens a table by its suffix, one of `TABLE_SUFFIXES`.

    Values of CSV and TSV are text as it stands, quoted as in RFC 4180: "01" and "true" stay
    what they are, an empty value is an empty text. Empty lines are no rows.

    Raises:
        ConfigError: for a file that is not what its suffix says, naming line or row.
    """
    table = _OPENERS[path.suffix.lower()](path)
    double = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if double:
        raise _refused(
            path, f"which has several columns {', '.join(double)}", "Name each column once."
        )
    return table


def _refused(path: Path, what: str, fix: str) -> ConfigError:
    return ConfigError(
        f"dataset.path must have tables that can be read. Received: {path}, {what}. {fix}"
    )


def _text(path: Path) -> str:
    """Returns the text of a file in UTF-8, or in what its byte order mark says, without the mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _refused(path, f"which is unreadable ({error.strerror})", "Mend it.") from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (3 if encoding == "utf-8-sig" else 0)  # the mark is not counted
        line = data[:start].decode(encoding, "ignore").count("\n") + 1
        raise _refused(
            path,
            f"whose byte {start} (line {line}) is not {encoding.removesuffix('-sig').upper()}",
            "Save it in UTF-8; if it is in Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 "
            "OLD > NEW.",
        ) from error
    if "\0" in text[: text.find("\n")]:
        raise _refused(path, "whose first line has NUL characters", _NUL)
    return text


def _delimited(path: Path, delimiter: str) -> TableFile:
    """Reads with Python, strictly: Arrow takes a quote left open for one long last value."""
    text = _text(path)

    def rows() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        limit = csv.field_size_limit(len(text) + 1)  # of the process; 128 KiB else
        try:
            first = 1
            for row in reader:
                if row:
                    yield first, row
                first = reader.line_num + 1
        except csv.Error as error:
            raise _refused(path, f"whose line {reader.line_num} has {error}", _QUOTING) from error
        finally:
            csv.field_size_limit(limit)

    _, header = next(rows(), (0, []))
    if not header:
        raise _refused(path, "which is empty", "Its first line names the columns.")
    other = next((sign for sign in ",;\t|" if sign in header[0]), None)
    if len(header) == 1 and other is not None:
        name = {",": "a comma", "\t": "a tab"}
        raise _refused(
            path,
            f"whose first line has {name.get(other, other)} and no {name[delimiter][2:]}",
            "Save it with commas as .csv, or with tabs as .tsv.",
        )

    def read(names: Sequence[str]) -> TableRows:
        table = TableRows({name: [] for name in names}, [])
        wanted = [(header.index(name), column) for name, column in table.columns.items()]
        for line, row in itertools.islice(rows(), 1, None):
            if len(row) != len(header):
                table.bad.append((line, f"with {len(row)} values for {len(header)} columns"))
                continue
            table.numbers.append(line)
            for index, column in wanted:
                column.append(row[index])
        return table

    return TableFile(path, tuple(header), read)


def _csv(path: Path) -> TableFile:
    return _delimited(path, ",")


def _tsv(path: Path) -> TableFile:
    return _delimited(path, "\t")


def _jsonl(path: Path) -> TableFile:
    """Reads objects with Python: Arrow's own reader turns texts that look like dates to dates."""
    rows: dict[int, dict[str, Any]] = {}
    bad: list[tuple[int, str]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad.append((number, "not JSON"))
            continue
        if not isinstance(row, dict):
            bad.append((number, f"a {type(row).__name__}, not an object"))
            continue
        rows[number] = row
        names.update(dict.fromkeys(row))
    if bad and not rows:
        raise _refused(
            path,
            f"whose line {bad[0][0]} is {bad[0][1]}, and so are all others",
            'Write an object a line: {"text": …, "label": …}.',
        )

    def read(names: Sequence[str]) -> TableRows:
        columns = {name: [row.get(name) for row in rows.values()] for name in names}
        return TableRows(columns, list(rows), bad)

    return TableFile(path, tuple(names), read)


def _parquet(path: Path) -> TableFile:
    import pyarrow as pa
    from pyarrow import parquet

    def attempt(what: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (pa.ArrowException, OSError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise _refused(path, f"which is {what} ({said})", "Write the file again.") from error

    file = attempt("not Parquet", lambda: parquet.ParquetFile(path))

    def read(names: Sequence[str]) -> TableRows:
        def columns() -> Columns:
            table = file.read(columns=list(names))
            return {name: table.column(name).to_pylist() for name in names}

        held = attempt("damaged", columns)
        return TableRows(held, list(range(1, 1 + file.metadata.num_rows)))

    return TableFile(path, tuple(file.schema_arrow.names), read, "row")


_OPENERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
TABLE_SUFFIXES = tuple(_OPENERS)

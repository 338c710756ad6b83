"""CSV, TSV, JSON Lines and Parquet files to columns of plain values, with no type guessed."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

_QUOTING = (
    "Put a value that has a delimiter, a newline or a quote in it in double quotes, and double "
    "the quotes in it."
)
Columns = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class TableFile:
    """An opened table.

    Args:
        path: of the file.
        columns: names, in the order of the file.
        read: columns by name, each a list of one value a row; None where there is none.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Columns]


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
    """Returns the text of a UTF-8 file, without its byte order mark."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0  # it is not counted in error.start
        line = data.count(b"\n", 0, error.start + mark) + 1
        raise _refused(
            path,
            f"whose byte {error.start + mark} (line {line}) is not UTF-8",
            "Save it in UTF-8.",
        ) from error


def _delimited(path: Path, delimiter: str) -> TableFile:
    """Reads with Python, strictly: Arrow takes a quote left open for one long last value."""
    text = _text(path)

    def rows() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        limit = csv.field_size_limit(len(text) + 1)  # of the process; 128 KiB else
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise _refused(path, f"whose line {reader.line_num} has {error}", _QUOTING) from error
        finally:
            csv.field_size_limit(limit)

    _, header = next(rows(), (0, []))
    if not header:
        raise _refused(path, "which is empty", "Its first line names the columns.")

    def read(names: Sequence[str]) -> Columns:
        columns: Columns = {name: [] for name in names}
        wanted = [(header.index(name), columns[name]) for name in columns]
        for line, row in itertools.islice(rows(), 1, None):
            if len(row) != len(header):
                raise _refused(
                    path,
                    f"with {len(row)} values in the row that ends in line {line}, where the "
                    f"header has {len(header)}",
                    _QUOTING,
                )
            for index, column in wanted:
                column.append(row[index])
        return columns

    return TableFile(path, tuple(header), read)


def _csv(path: Path) -> TableFile:
    return _delimited(path, ",")


def _tsv(path: Path) -> TableFile:
    return _delimited(path, "\t")


def _jsonl(path: Path) -> TableFile:
    """Reads objects with Python: Arrow's own reader turns texts that look like dates to dates."""
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _refused(
                path, f"whose line {number} is not JSON ({error})", "Write an object a line."
            ) from error
        if not isinstance(row, dict):
            raise _refused(
                path,
                f"whose line {number} is a {type(row).__name__}",
                'Write an object a line: {"text": …, "label": …}.',
            )
        rows.append(row)
        names.update(dict.fromkeys(row))
    return TableFile(path, tuple(names), lambda names: {n: [r.get(n) for r in rows] for n in names})


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

    def read(names: Sequence[str]) -> Columns:
        def columns() -> Columns:
            table = file.read(columns=list(names))
            return {name: table.column(name).to_pylist() for name in names}

        return attempt("damaged", columns)

    return TableFile(path, tuple(file.schema_arrow.names), read)


_OPENERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
TABLE_SUFFIXES = tuple(_OPENERS)

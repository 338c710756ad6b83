"""Reading of CSV, TSV, JSON Lines and Parquet files as columns, without guessing types."""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

_QUOTING = (
    "Put values that contain a delimiter, a newline or a quote in double quotes, and double the "
    "quotes inside them."
)
_NUL = (
    "The file is probably UTF-16 without a byte order mark. Save it in UTF-8: iconv -f UTF-16LE -t "
    "UTF-8 OLD > NEW."
)
_MARKS = {  # longer marks first: the mark of UTF-16 is the start of UTF-32's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?\r?\n', re.IGNORECASE)
Columns = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows of some columns of a table.

    Args:
        columns: Values of each column, one per row, by name; missing values are None.
        numbers: Numbers of the rows, from 1: the line where each one starts, or the row of a
            Parquet file.
        bad: Number and reason of each malformed row.
    """

    columns: Columns
    numbers: list[int]
    bad: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TableFile:
    """An opened table.

    Args:
        path: Path of the file.
        columns: Column names in the order of the file.
        read: Function from column names to the rows of those columns.
        unit: Unit that rows are numbered in: line or row.
        class_names: Class names of columns that hold class indices, if the file contains them.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], TableRows]
    unit: str = "line"
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def open_table(path: Path) -> TableFile:
    """Opens a table by its suffix, one of `TABLE_SUFFIXES`.

    Values of CSV and TSV stay text, quoted as in RFC 4180: "01" and "true" are not converted, and
    an empty value is an empty text. Empty lines are skipped.

    Raises:
        ConfigError: If the content does not match the suffix; it names the line or row.
    """
    table = _OPENERS[path.suffix.lower()](path)
    named = [name for name in table.columns if name]  # R and Excel leave some names empty
    double = sorted({name for name in named if named.count(name) > 1})
    if double:
        raise _refused(
            path, f"which has more than one column {', '.join(double)}", "Use each name once."
        )
    return table


def _refused(path: Path, what: str, fix: str) -> ConfigError:
    return ConfigError(
        f"dataset.path must be tables that can be read. Received: {path}, {what}. {fix}"
    )


def _text(path: Path) -> str:
    """Returns the text of a file, in UTF-8 or in the encoding of its byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _refused(path, f"which is unreadable ({error.strerror})", "Fix it.") from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (3 if encoding == "utf-8-sig" else 0)  # the mark is not counted
        line = data[:start].decode(encoding, "ignore").count("\n") + 1
        raise _refused(
            path,
            f"whose byte {start} (line {line}) is not {encoding.removesuffix('-sig').upper()}",
            "Save it in UTF-8. From Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW.",
        ) from error
    if "\0" in text[: text.find("\n")]:
        raise _refused(path, "whose first line contains NUL characters", _NUL)
    return text


def _records(path: Path, text: str, delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line that each row starts in, and its values.

    Args:
        path: Path of the table for the error message.
        text: The whole text.
        delimiter: Delimiter of the values.
        first: Line of the table that `text` starts in.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(
        len(text) + 1
    )  # the limit of the whole process, 128 KiB by default
    try:
        line = first
        for row in reader:
            if row:
                yield line, row
            line = first + reader.line_num
    except csv.Error as error:
        line = first + reader.line_num - 1
        raise _refused(path, f"whose line {line} has {error}", _QUOTING) from error
    finally:
        csv.field_size_limit(limit)


def _delimited(path: Path, delimiters: str) -> TableFile:
    """Reads with Python and strictly: Arrow takes an open quote for one long last value.

    A first line ``sep=;``, which Excel writes and obeys, sets the delimiter. Otherwise it is the
    one of `delimiters` that splits the first line into the most columns.
    """
    text, first = _text(path), 1
    separator = _SEPARATOR.match(text)
    if separator is not None:
        text, first, delimiters = text[separator.end() :], 2, separator[1]

    def header_by(delimiter: str) -> list[str]:
        return next(_records(path, text, delimiter, first), (0, []))[1]

    delimiter, header = delimiters[0], []
    for candidate in delimiters[1:]:
        try:
            header = header_by(delimiter)
        except ConfigError:  # a quoted name followed by another delimiter
            header = []
        try:
            other = header_by(candidate)
        except ConfigError:
            continue
        if len(other) > max(len(header), 1):
            delimiter, header = candidate, other
    header = [name.strip() for name in header or header_by(delimiter)]
    if not header:
        raise _refused(path, "which is empty", "The first line must name the columns.")
    other = next((sign for sign in ",;\t|" if sign in header[0]), None)
    if len(header) == 1 and other is not None:
        name = {",": "a comma", "\t": "a tab"}
        raise _refused(
            path,
            f"whose first line contains {name.get(other, other)} but no "
            f"{name.get(delimiter, delimiter).removeprefix('a ')}",
            "Save it with commas or semicolons as .csv, or with tabs as .tsv.",
        )

    def rows() -> Iterator[tuple[int, list[str]]]:
        return _records(path, text, delimiter, first)

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
    return _delimited(path, ",;")


def _tsv(path: Path) -> TableFile:
    return _delimited(path, "\t")


def _jsonl(path: Path) -> TableFile:
    """Reads objects with Python: Arrow's reader converts texts that look like dates to dates."""
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
            f"whose line {bad[0][0]} is {bad[0][1]}, like all other lines",
            'Write one object per line: {"text": …, "label": …}.',
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

        read_columns = attempt("damaged", columns)
        return TableRows(read_columns, list(range(1, 1 + file.metadata.num_rows)))

    schema = file.schema_arrow
    return TableFile(path, tuple(schema.names), read, "row", _class_names(schema.metadata))


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Returns the class names that Hugging Face's `datasets` stores for columns of indices."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _names_of(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names is not None}


def _names_of(feature: Any) -> list[str] | None:
    """Returns the names of a ClassLabel feature, or of a list of them; None for other features."""
    if isinstance(feature, list) and len(feature) == 1:  # a list as older versions write it
        feature = feature[0]
    if isinstance(feature, dict) and "feature" in feature:
        feature = feature["feature"]
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if named else None


_OPENERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
TABLE_SUFFIXES = tuple(_OPENERS)

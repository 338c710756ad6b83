"""JSON and CSV text for other programs, safe to read in a terminal."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from finetune.printable import printable


def json_text(values: Any, indent: int | None = None) -> str:
    """Returns values as JSON; escapes non-ASCII text if it has control characters or lone surrogates."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    plain = text.replace("\n", "").isprintable()
    return text if plain else json.dumps(values, indent=indent)


def csv_text(rows: Iterable[Sequence[Any]], to_terminal: bool = False) -> str:
    """Returns rows as CSV with one line per row.

    Args:
        rows: Cells of each row.
        to_terminal: Whether the text goes to a terminal. Control characters are then escaped.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(
            [printable(cell) if to_terminal and isinstance(cell, str) else cell for cell in row]
        )
    return text.getvalue().encode("utf-8", "backslashreplace").decode()

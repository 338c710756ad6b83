"""Rows of a table to examples and label names; rows that lack one are bad samples."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.datasets.bad_samples import BadSample, text_reason
from finetune.datasets.image_files import IMAGE_SUFFIXES
from finetune.datasets.labels import listed
from finetune.datasets.names import plain
from finetune.datasets.table_files import TableFile, TableRows


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The good rows of a table, and its bad ones.

    Args:
        inputs: texts, paths of images, or encoded images.
        names: label names of each row; one, where rows have one label.
        values: the labels as they stand, as `names`.
        numbers: of the rows, lines or rows of the file.
        bad: rows that lack something.
        leaving: numbers of rows whose image is outside of the table's directory.
    """

    inputs: list[Any]
    names: list[list[str]]
    values: list[list[Any]]
    numbers: list[int]
    bad: list[BadSample]
    leaving: list[int]


def labelled_rows(
    part: str,
    table: TableFile,
    rows: TableRows,
    entry: str,
    label: str,
    *,
    images: bool,
    several: bool,
    separator: str | None,
) -> LabelledRows:
    """Sorts the rows of a table into good and bad ones.

    Args:
        part: train, validation or test.
        table: that the rows are of.
        rows: with both columns.
        entry: column of the examples.
        label: column of the labels.
        images: whether examples are images.
        several: whether a row may have several labels, or none.
        separator: between the labels of a text; None: none.
    """
    done = LabelledRows([], [], [], [], [], [])
    wrong = dict(rows.bad)
    pairs = zip(rows.columns[entry], rows.columns[label], strict=True)
    for number, (value, target) in zip(rows.numbers, pairs, strict=True):
        reason = image_reason(value) if images else text_reason(value)
        labels = _labels_of(target, several, separator)
        reason = reason or next(filter(None, map(_label_reason, labels)), None)
        if reason is not None:
            wrong[number] = reason
            continue
        if images and isinstance(value, str):
            if _leaves(value):
                done.leaving.append(number)
            value = table.path.parent / value
        done.inputs.append(encoded(value) if images and not isinstance(value, Path) else value)
        done.names.append([str(label_name(each)) for each in labels])
        done.values.append(labels)
        done.numbers.append(number)
    done.bad.extend(
        BadSample(part, f"{table.path.name}:{number}", wrong[number]) for number in sorted(wrong)
    )
    return done


def _leaves(path: str) -> bool:
    return not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] == os.pardir


def _labels_of(value: Any, several: bool, separator: str | None) -> list[Any]:
    """Returns the labels in a value; a value that is none stays one, for `_label_reason`."""
    if several and isinstance(value, list):
        return value
    if separator is not None and isinstance(value, str):
        return [name for each in value.split(separator) if (name := each.strip())]
    return [value]


def _label_reason(value: Any) -> str | None:
    if label_name(value) is not None:
        return None
    if value is None or (isinstance(value, str) and not value.strip()):
        return "without a label"
    return "with a label that is no text, number or true/false"


def label_name(value: Any) -> str | None:
    """Returns the label name of a value: text as `plain` has it, all else as JSON writes it.

    None where it has none.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return plain(value) or None if isinstance(value, str) and text_reason(value) is None else None


def holds_images(column: str, values: Sequence[Any]) -> bool:
    """Whether a column is one of images: by its name, or by what most of its values end in."""
    if column in ("image", "text"):
        return column == "image"
    return 2 * sum(_seems_image(value) for value in values) > len(values)


def _seems_image(value: Any) -> bool:
    if isinstance(value, str):
        return value.lower().endswith(IMAGE_SUFFIXES) and "\n" not in value
    return encoded(value) is not None


def image_reason(value: Any) -> str | None:
    """Returns why a value is neither a path nor an encoded image; None where it is one."""
    if isinstance(value, str):
        return None if value.strip() and text_reason(value) is None else "without an image"
    return "without an image" if encoded(value) is None else None


def encoded(value: Any) -> bytes | None:
    """Returns the encoded image in a Parquet value: binary, or a struct with it in `bytes`."""
    held = value.get("bytes") if isinstance(value, dict) else value
    return held if isinstance(held, bytes) and held else None


def leaving_problem(table: TableFile, column: str, numbers: Sequence[int]) -> str:
    """Returns the refusal of images outside of a table's directory."""
    return (
        f"dataset.path: column {column} of {table.path.name} must have paths below its own "
        f"directory. Received: something else in {table.unit}s {listed(numbers)}. Name files "
        "outside of it by their absolute path."
    )

"""Conversion of table rows to examples and label names. Incomplete rows are bad samples."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.datasets.bad_samples import BadSample, text_reason
from finetune.datasets.images.files import IMAGE_SUFFIXES, is_image
from finetune.datasets.labels import listed
from finetune.datasets.names import plain
from finetune.datasets.sources.table_files import TableFile, TableRows

_LOOKED_AT = 20  # values to try as paths if their suffixes are inconclusive
_LONGEST_PATH = 4096
_ADDRESS = re.compile(r"\s*(https?|ftp|s3|gs)://")


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The good rows of a table, and its bad ones.

    Args:
        inputs: Texts, image paths, or encoded images.
        names: Label names of each row, a single one unless rows are multi-label.
        values: Labels as they appear in the table, in the structure of `names`.
        numbers: Numbers of the rows: lines or rows of the file.
        bad: Incomplete rows.
        leaving: Numbers of the rows whose image lies outside the table's directory.
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
    multi_label: bool,
    separator: str | None,
) -> LabelledRows:
    """Separates the rows of a table into good and bad ones.

    Args:
        part: Name of the split: train, validation or test.
        table: Table of the rows.
        rows: Rows with both columns.
        entry: Column of the examples.
        label: Column of the labels.
        images: Whether examples are images.
        multi_label: Whether a row may have any number of labels.
        separator: Separator of the labels in a text; None does not split texts.
    """
    done = LabelledRows([], [], [], [], [], [])
    class_names = table.class_names.get(label)
    wrong = dict(rows.bad)
    pairs = zip(rows.columns[entry], rows.columns[label], strict=True)
    for number, (value, target) in zip(rows.numbers, pairs, strict=True):
        value = located(value, table.path.parent) if images else value
        reason = _image_reason(value) if images else text_reason(value)
        labels = _labels_of(target, multi_label, separator)
        reasons = (_label_reason(value, class_names) for value in labels)
        reason = reason or next(filter(None, reasons), None)
        if reason is not None:
            wrong[number] = reason
            continue
        if images and isinstance(value, str):
            if _leaves(value):
                done.leaving.append(number)
            value = table.path.parent / value
        done.inputs.append(value)
        done.names.append([str(label_name(value, class_names)) for value in labels])
        done.values.append(labels)
        done.numbers.append(number)
    done.bad.extend(
        BadSample(part, f"{table.path.name}:{number}", wrong[number]) for number in sorted(wrong)
    )
    return done


def _leaves(path: str) -> bool:
    return not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] == os.pardir


def _labels_of(value: Any, multi_label: bool, separator: str | None) -> list[Any]:
    """Returns the labels in a value. An invalid value is kept for `_label_reason`."""
    if multi_label and isinstance(value, list):
        return value
    if separator is not None and isinstance(value, str):
        return [name for text in value.split(separator) if (name := text.strip())]
    return [value]


def _label_reason(value: Any, class_names: Sequence[str] | None) -> str | None:
    if label_name(value, class_names) is not None:
        return None
    if value is None or value == -1 or (isinstance(value, str) and not plain(value)):
        return "without a label"
    if class_names is not None and isinstance(value, int):
        return (
            f"with a label that is not in 0..{len(class_names) - 1}, the indices of the class names"
        )
    return "with a label that is not text, a number or true/false"


def are_zeros_and_ones(values: Sequence[Any]) -> bool:
    """Returns whether all labels are lists of 0 and 1 of one length, as if one for each class."""
    lists = [value for value in values if isinstance(value, list)]
    return (
        len(lists) == len(values) > 0
        and len({len(values) for values in lists}) == 1
        and len(lists[0]) > 1
        and all(
            isinstance(value, int | float) and value in (0, 1) for row in lists for value in row
        )
    )


def label_name(value: Any, class_names: Sequence[str] | None = None) -> str | None:
    """Returns the label name of a value: text as `plain` writes it, everything else as in JSON.

    It is None if the value has none.

    Args:
        value: Value in the column.
        class_names: Class names that integers index; None keeps integers.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and class_names is not None:
        return plain(class_names[value]) if 0 <= value < len(class_names) else None
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if not isinstance(value, str) or text_reason(value) is not None:
        return None
    return plain(value) or None


def holds_images(column: str, values: Sequence[Any], folder: Path) -> bool:
    """Returns whether a column contains images, by its name or else by most of its values.

    Args:
        column: Name of the column.
        values: All values of the column.
        folder: Directory that relative paths start from.
    """
    if column in ("image", "text"):
        return column == "image"
    if 2 * sum(_seems_image(value) for value in values) > len(values):
        return True
    paths = [located(value, folder) for value in values[:_LOOKED_AT]]
    files = [path for path in paths if isinstance(path, str) and len(path) < _LONGEST_PATH]
    return 2 * sum(is_image(folder / path) for path in files) > len(paths)


def _seems_image(value: Any) -> bool:
    found = located(value)
    if isinstance(found, str):
        return found.lower().endswith(IMAGE_SUFFIXES) and "\n" not in found
    return found is not None


def _image_reason(found: Any) -> str | None:
    """Returns why a located value is neither a path nor an encoded image, or None if it is."""
    if isinstance(found, str):
        if _ADDRESS.match(found):
            return "a web address; download the image and give its path"
        return None if found.strip() and text_reason(found) is None else "without an image"
    return "without an image" if found is None else None


def located(value: Any, folder: Path | None = None) -> bytes | str | None:
    """Returns the encoded image or the path in a value of a table, or None if there is neither.

    Args:
        value: Bytes, a path, or both as in Hugging Face datasets, ``{"bytes": …, "path": …}``,
            where one may be missing.
        folder: Directory that relative paths start from. Unless a file has exactly that name, white
            space around a path is ignored and backslashes are taken for Windows separators. None
            leaves paths unchanged.
    """
    held = value
    if isinstance(value, dict):
        held = value.get("bytes") or value.get("path")
    if isinstance(held, bytes):
        return held or None
    if not isinstance(held, str):
        return None
    if folder is None or os.path.lexists(folder / held):
        return held
    return held.strip().replace("\\", "/")


def leaving_problem(table: TableFile, column: str, rows: LabelledRows) -> str:
    """Returns the error message for images outside the table's directory."""
    which = f"{table.unit}s {listed(rows.leaving)}"
    if len(rows.leaving) == len(rows.numbers) > 1:
        which = f"all of its {len(rows.numbers):,} rows"
    return (
        f"dataset.path: column {column} of {table.path.name} must contain paths below the table's own "
        f"directory, {table.path.parent}. Received: paths that leave it in {which}. Move the table to "
        "the directory that the paths start from, or use absolute paths for files outside it."
    )

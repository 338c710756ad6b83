"""Tables of texts or images: one file a split, or one file that is split."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.assembling import (
    IMAGE_SUFFIXES,
    PARTS,
    Rows,
    assemble,
    memory_budget,
    objects,
    require_rows,
    row_names,
)
from finetune.datasets.dataset import Dataset, require_classes
from finetune.datasets.labels import indices, listed, multi_hot
from finetune.datasets.table_files import TABLE_SUFFIXES, TableFile, open_table
from finetune.errors import ConfigError, unknown_name

_WHERE = "dataset.path must be a table or a directory of tables"
_LAYOUT = (
    "It needs DIR/train, DIR/validation and DIR/test with one of the suffixes "
    f"{', '.join(TABLE_SUFFIXES)}, or one such file."
)


def load_table(
    path: str,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
) -> Dataset:
    """Loads ``DIR/{train,validation|val,test}.{csv,tsv,jsonl,parquet}``, or one such file.

    A split that has no file is taken from the training rows as in `load_folder`. Classes are the
    labels of train, sorted: numbers of JSON and Parquet as numbers, all else as text.

    Args:
        path: DIR or FILE.
        input_column: of texts, of paths of images (relative to the table), or of encoded images
            in Parquet; None: ``text`` or ``image``, whichever there is.
        label_column: None: ``label``.
        label_separator: between the labels of a row, which may then have several or none; None:
            one label a row, except where the column holds lists.
        max_samples: keep at most this many of each split; None keeps all.
        train_per_class: keep this many training rows of each class; None keeps all.
        seed: chooses what is held out and the rows that are kept, 0..2**32-1.

    Raises:
        ConfigError: for tables that cannot be read, with the rows that are wrong.
    """
    files = _files(Path(path).expanduser(), path)
    tables = {part: open_table(file) for part, file in files.items()}
    label = label_column or "label"
    entry = input_column or _input(tables["train"])
    _require_columns(tables, entry, label)
    columns = {part: table.read(list({entry, label})) for part, table in tables.items()}
    require_rows(path, {part: len(each[label]) for part, each in columns.items()})
    images = _holds_images(entry, columns["train"][entry])
    problems: list[str] = []
    inputs = {}
    for part, table in tables.items():
        values = columns[part][entry]
        check = _images if images else _texts
        inputs[part] = check(table.path, entry, values, problems)
    names = {part: columns[part][label] for part in tables}
    several = label_separator is not None or any(isinstance(v, list) for v in names["train"])
    for part, table in tables.items():
        problems += _label_problems(table.path, label, names[part], several, label_separator)
    if problems:
        raise ConfigError(problems)
    encoded, classes = _labels(tables, label, names, label_separator, several, path)
    return assemble(
        "table",
        Path(path).expanduser().resolve().name,
        classes,
        {
            part: Rows(inputs[part], encoded[part], row_names(table.path.name, len(inputs[part])))
            for part, table in tables.items()
        },
        kind="image" if images else "text",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
    )


def _files(root: Path, given: str) -> dict[str, Path]:
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise ConfigError(f"{_WHERE}. Received: {given}. {_LAYOUT}")
        files = {"train": root}
    elif root.is_dir():
        files = _split_files(root, given)
    else:
        raise ConfigError(f"{_WHERE}. Received: {given}, which does not exist. {_LAYOUT}")
    size, budget = sum(file.stat().st_size for file in files.values()), memory_budget()
    if size > budget:  # a row can only be chosen once its label is read
        raise ConfigError(
            "dataset.path must be tables within half of the memory that is free. Received: "
            f"{given} of {size / 2**30:.1f} GiB, where {budget / 2**30:.1f} GiB may be used. "
            "Leave rows or columns out."
        )
    return files


def _split_files(root: Path, given: str) -> dict[str, Path]:
    problems = []
    files = {}
    for part, stems in PARTS.items():
        found = sorted(f for f in root.iterdir() if f.is_file() and f.name.split(".")[0] in stems)
        unknown = [file.name for file in found if file.suffix.lower() not in TABLE_SUFFIXES]
        if unknown:
            problems.append(f"{_WHERE}. Received: {given} with {', '.join(unknown)}. {_LAYOUT}")
        elif len(found) > 1:
            problems.append(
                f"{_WHERE}, one for a split. Received: {given} with "
                f"{' and '.join(file.name for file in found)} for {part}. Keep one of them."
            )
        elif found:
            files[part] = found[0]
    if not problems and "train" not in files:
        problems.append(f"{_WHERE}. Received: {given} without a table train. {_LAYOUT}")
    if problems:
        raise ConfigError(problems)
    return files


def _input(table: TableFile) -> str:
    found = [name for name in ("text", "image") if name in table.columns]
    if len(found) == 1:
        return found[0]
    raise ConfigError(
        f"dataset.columns.input must name the column of texts or images in {table.path.name}. "
        f"Received: null, where {'both text and image are' if found else 'neither is'} a column. "
        f"Valid: {', '.join(table.columns) or 'none'}."
    )


def _require_columns(tables: Mapping[str, TableFile], entry: str, label: str) -> None:
    problems = [
        unknown_name(f"dataset.columns.{key}", f"a column of {table.path.name}", name, columns)
        for table in tables.values()
        for key, name in (("input", entry), ("label", label))
        if name not in (columns := table.columns)
    ]
    if entry == label:
        problems.append(
            "dataset.columns.input must be another column than dataset.columns.label. Received: "
            f"{entry} for both. Name the column of texts or images."
        )
    if problems:
        raise ConfigError(problems)


def _wrong(path: Path, column: str, expected: str, rows: Sequence[Any], fix: str) -> str:
    """Returns one message for all rows of a file that are wrong in the same way."""
    return (
        f"dataset.path: column {column} of {path.name} must have {expected}. Received: something "
        f"else in rows {listed(rows)}. {fix}"
    )


def _texts(path: Path, column: str, values: Sequence[Any], problems: list[str]) -> np.ndarray:
    wrong = [row for row, value in enumerate(values, start=1) if not _is_text(value)]
    if wrong:
        fix = "Remove these rows; the first row after the header is 1."
        problems.append(_wrong(path, column, "a text that is not empty in each row", wrong, fix))
    return objects(values)


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()  # JSON can write half a character: "\ud800"
    except UnicodeEncodeError:
        return False
    return True


def _holds_images(column: str, values: Sequence[Any]) -> bool:
    """Whether a column is one of images: by its name, or by what most of its values end in."""
    if column in ("image", "text"):
        return column == "image"
    return 2 * sum(_is_image(value) for value in values) > len(values)


def _is_image(value: Any) -> bool:
    if isinstance(value, str):
        return value.lower().endswith(IMAGE_SUFFIXES) and "\n" not in value
    return _encoded(value) is not None


def _encoded(value: Any) -> bytes | None:
    """Returns the encoded image in a Parquet value: binary, or a struct with it in `bytes`."""
    held = value.get("bytes") if isinstance(value, dict) else value
    return held if isinstance(held, bytes) and held else None


def _images(path: Path, column: str, values: Sequence[Any], problems: list[str]) -> np.ndarray:
    found: list[Any] = []
    wrong, leaving, missing = [], [], []
    for row, value in enumerate(values, start=1):
        found.append(None)
        if not _is_image(value):
            wrong.append(row)
        elif not isinstance(value, str):
            found[-1] = _encoded(value)
        elif not os.path.isabs(value) and os.path.normpath(value).split(os.sep)[0] == os.pardir:
            leaving.append(row)
        else:
            found[-1] = path.parent / value
            if not found[-1].is_file() or found[-1].stat().st_size == 0:
                missing.append(value)
    if wrong:
        fix = f"Images are files {', '.join(IMAGE_SUFFIXES)}."
        problems.append(_wrong(path, column, "the path of an image in each row", wrong, fix))
    if leaving:
        fix = "Name files outside of it by their absolute path."
        problems.append(_wrong(path, column, "paths below its own directory", leaving, fix))
    if missing:
        problems.append(
            f"dataset.path: column {column} of {path.name} must name files that exist and are not "
            f"empty, relative to its directory. Received: {listed(missing)}. Add the files, or "
            "remove the rows."
        )
    return objects(found)


def _name(value: Any) -> str | None:
    """Returns the label name of a value, as JSON writes it; None where it has none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return value if isinstance(value, str) and _is_text(value) else None


def _label_problems(
    path: Path, label: str, values: Sequence[Any], several: bool, separator: str | None
) -> list[str]:
    def fits(value: Any) -> bool:
        if several and isinstance(value, list):
            return all(_name(each) is not None for each in value)
        if separator is not None and isinstance(value, str) and not value.strip():
            return True  # none of the classes
        return _name(value) is not None

    wrong = [row for row, value in enumerate(values, start=1) if not fits(value)]
    if not wrong:
        return []
    expected = "a list of labels in each row" if several else "one label in each row"
    fix = "A label is a text, a number or true/false; the first row after the header is 1."
    return [_wrong(path, label, expected, wrong, fix)]


def _labels(
    tables: Mapping[str, TableFile],
    label: str,
    values: Mapping[str, Sequence[Any]],
    separator: str | None,
    several: bool,
    given: str,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the labels of each split by index, and the classes of train."""
    rows = {part: [_several(value, separator) for value in values[part]] for part in tables}
    names = {str(_name(value)): value for row in rows["train"] for value in row}
    numbers = all(isinstance(value, int | float) for value in names.values())
    classes = sorted(names, key=(lambda name: (names[name], name)) if numbers else None)
    require_classes("dataset.path", given, classes)
    done = {}
    for part, table in tables.items():
        where = f"dataset.path: column {label} of {table.path.name}"
        own = [[str(_name(value)) for value in row] for row in rows[part]]
        if several:
            done[part] = multi_hot(where, own, classes)
        else:
            done[part] = indices(where, [row[0] for row in own], classes)
    return done, classes


def _several(value: Any, separator: str | None) -> list[Any]:
    if isinstance(value, list):
        return value
    if separator is not None and isinstance(value, str):
        return [name for each in value.split(separator) if (name := each.strip())]
    return [value]

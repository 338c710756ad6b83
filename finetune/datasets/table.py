"""Tables of texts or images: one file a split, or one file that is split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.assembling import PARTS, Part, Rows, assemble, objects, require_rows
from finetune.datasets.bad_samples import none_left, refusal
from finetune.datasets.dataset import Dataset, require_classes
from finetune.datasets.labels import indices, multi_hot
from finetune.datasets.memory import memory_budget
from finetune.datasets.table_files import TABLE_SUFFIXES, TableFile, open_table
from finetune.datasets.table_rows import (
    LabelledRows,
    holds_images,
    labelled_rows,
    leaving_problem,
)
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
    skip: bool = False,
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
        skip: whether rows that lack something, and bad images, are left out, not refused.

    Raises:
        ConfigError: for tables that cannot be read, with the lines that are wrong.
    """
    files = _files(Path(path).expanduser(), path, "train")
    tables = {part: open_table(file) for part, file in files.items()}
    label = label_column or "label"
    entry = input_column or _input(tables["train"])
    _require_columns(tables, entry, label)
    done, images, several = _sorted_rows(tables, entry, label, label_separator, path)
    targets, classes = _targets(tables, label, done, several, path, skip)
    return assemble(
        "table",
        Path(path).expanduser().resolve().name,
        classes,
        {part: _rows(tables[part], each, targets[part]) for part, each in done.items()},
        kind="image" if images else "text",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
    )


def table_part(
    path: str,
    part: str,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    skip: bool = False,
) -> Part:
    """Reads the rows of one split by itself: those of its table, or all of ``FILE``.

    Args:
        path: DIR or FILE.
        part: train, validation or test.
        input_column: as in `load_table`, and so are all others.
        label_column: column of the labels.
        label_separator: between the labels of a row.
        skip: whether rows that lack something are left out, not refused.

    Raises:
        ConfigError: as `load_table`; also where there are other splits, and not this one.
    """
    root = Path(path).expanduser()
    file = _files(root, path, part)[part]
    tables = {part: open_table(file)}
    label = label_column or "label"
    entry = input_column or _input(tables[part])
    _require_columns(tables, entry, label)
    done, images, several = _sorted_rows(tables, entry, label, label_separator, path)
    targets, classes = _targets(tables, label, done, several, path, skip, alone=True)
    rows = _rows(tables[part], done[part], targets[part])
    split = None if root.is_file() else part
    return Part(root.resolve().name, split, classes, rows, "image" if images else "text")


def _rows(table: TableFile, done: LabelledRows, targets: np.ndarray) -> Rows:
    sources = objects([f"{table.path.name}:{number}" for number in done.numbers])
    return Rows(objects(done.inputs), targets, sources, done.bad)


def _sorted_rows(
    tables: Mapping[str, TableFile], entry: str, label: str, separator: str | None, given: str
) -> tuple[dict[str, LabelledRows], bool, bool]:
    """Reads all rows; returns them by split, whether they hold images, and several labels each.

    The first of the tables decides both, and gives the classes.
    """
    rows = {part: table.read([entry, label]) for part, table in tables.items()}
    require_rows(given, {part: len(each.numbers) + len(each.bad) for part, each in rows.items()})
    first = next(iter(rows.values())).columns
    images = holds_images(entry, first[entry])
    several = separator is not None or any(isinstance(value, list) for value in first[label])
    done = {
        part: labelled_rows(
            part, table, rows[part], entry, label,
            images=images, several=several, separator=separator,
        )
        for part, table in tables.items()
    }  # fmt: skip
    leaving = [
        leaving_problem(tables[part], entry, each.leaving)
        for part, each in done.items()
        if each.leaving
    ]
    if leaving:
        raise ConfigError(leaving)
    return done, images, several


def _files(root: Path, given: str, lead: str) -> dict[str, Path]:
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise ConfigError(f"{_WHERE}. Received: {given}. {_LAYOUT}")
        files = {lead: root}
    elif root.is_dir():
        files = _split_files(root, given, lead)
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


def _split_files(root: Path, given: str, lead: str) -> dict[str, Path]:
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
    if not problems and lead not in files:
        problems.append(f"{_WHERE}. Received: {given} without a table {lead}. {_LAYOUT}")
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


def _targets(
    tables: Mapping[str, TableFile],
    label: str,
    done: Mapping[str, LabelledRows],
    several: bool,
    given: str,
    skip: bool,
    alone: bool = False,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the labels of each split by index, and the classes of the first, train.

    A split that is `alone` may have any number of classes.
    """
    bad = [each for rows in done.values() for each in rows.bad]
    for part, rows in done.items():
        if not rows.numbers:
            raise none_left(part, len(rows.bad), bad)
    try:
        classes = _classes(next(iter(done.values())))
        if not alone:
            require_classes("dataset.path", given, classes)
        targets = {}
        for part, rows in done.items():
            where = f"dataset.path: column {label} of {tables[part].path.name}"
            counted = (f"{tables[part].unit}s", rows.numbers)
            encode = multi_hot if several else indices
            names: list[Any] = rows.names if several else [row[0] for row in rows.names]
            targets[part] = encode(where, names, classes, counted)
    except ConfigError as error:
        if bad and not skip:  # a row that is mended may mend this too
            raise ConfigError([*refusal(bad).problems, *error.problems]) from error
        raise
    return targets, classes


def _classes(train: LabelledRows) -> list[str]:
    names = {
        name: value
        for row in zip(train.names, train.values, strict=True)
        for name, value in zip(*row, strict=True)
    }
    numbers = all(isinstance(value, int | float) for value in names.values())
    return sorted(names, key=(lambda name: (names[name], name)) if numbers else None)

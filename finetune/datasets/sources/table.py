"""Tables of texts or images: one file per split, or a single file that is split."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.assemble import Part, Rows, assemble, object_array, require_rows
from finetune.datasets.bad_samples import listed_names, none_left, printable, refusal
from finetune.datasets.dataset import Dataset, Found, require_classes
from finetune.datasets.labels import indices, multi_hot
from finetune.datasets.names import SPLITS, USUAL_NAMES
from finetune.datasets.sources.table_files import TableFile, open_table
from finetune.datasets.sources.table_layout import WHERE, TableLayout, find_tables
from finetune.datasets.sources.table_rows import (
    LabelledRows,
    are_zeros_and_ones,
    holds_images,
    labelled_rows,
    leaving_problem,
)
from finetune.errors import ConfigError, unknown_name


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
    """Loads ``DIR/{train,validation,test}.{csv,tsv,jsonl,parquet}``, or one such file.

    Tables of splits may have any usual name in any case, see `finetune.datasets.names.split_of`. A
    split without a table is taken from the training rows as in `load_folder`. Classes are the
    sorted labels of train: numbers in JSON and Parquet sort as numbers, everything else as text.

    Args:
        path: DIR or FILE.
        input_column: Column of texts, of image paths (relative to the table), or of encoded images
            in Parquet. None takes ``text`` or ``image``, whichever exists.
        label_column: Column of the labels; None takes ``label``.
        label_separator: Separator of the labels in a row, which may then have any number of them;
            None reads one label per row, unless the column holds lists.
        max_samples: Maximum number of rows to keep of each split, stratified; None keeps all.
        train_per_class: Number of training rows to keep of each class; None keeps all.
        seed: Seed of the rows that are held out and kept, 0..2**32-1.
        skip: Whether to leave incomplete rows and bad images out instead of refusing them.

    Raises:
        ConfigError: If tables cannot be read; it names the lines that are wrong.
    """
    root = Path(path).expanduser()
    layout = find_tables(root, path, "train")
    tables = {part: open_table(file) for part, file in layout.files.items()}
    label = label_column or "label"
    entry = input_column or _input(tables["train"])
    _require_columns(tables, entry, label)
    _refuse_unnamed(root, layout, (entry, label), path)
    done, images, multi_label = _sorted_rows(tables, entry, label, label_separator, path)
    targets, classes = _targets(tables, label, done, multi_label, path, skip)
    return assemble(
        "table",
        root.resolve().name,
        classes,
        {part: _rows(tables[part], rows, targets[part]) for part, rows in done.items()},
        kind="image" if images else "text",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
        found=_found(root, layout),
    )


def _found(root: Path, layout: TableLayout) -> Found:
    return Found(
        {part: printable(file.name) for part, file in layout.files.items()},
        layout.unused,
        dict(layout.ignored),
        root if os.path.isdir(root) else root.parent,
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
    """Reads the rows of a single split: those of its table, or all of ``FILE``.

    Args:
        path: DIR or FILE.
        part: Name of the split: train, validation or test.
        input_column: Column of the examples, as in `load_table`.
        label_column: Column of the labels; None takes ``label``.
        label_separator: Separator of the labels in a row, as in `load_table`.
        skip: Whether to leave incomplete rows out instead of refusing them.

    Raises:
        ConfigError: As for `load_table`; also if there are other splits but not this one.
    """
    root = Path(path).expanduser()
    layout = find_tables(root, path, part)
    layout = replace(layout, files={part: layout.files[part]})
    tables = {part: open_table(layout.files[part])}
    label = label_column or "label"
    entry = input_column or _input(tables[part])
    _require_columns(tables, entry, label)
    done, images, multi_label = _sorted_rows(tables, entry, label, label_separator, path)
    targets, classes = _targets(tables, label, done, multi_label, path, skip, alone=True)
    rows = _rows(tables[part], done[part], targets[part])
    split = None if root.is_file() else part
    kind = "image" if images else "text"
    return Part(root.resolve().name, split, classes, rows, kind, _found(root, layout))


def _rows(table: TableFile, done: LabelledRows, targets: np.ndarray) -> Rows:
    sources = object_array([f"{table.path.name}:{number}" for number in done.numbers])
    return Rows(object_array(done.inputs), targets, sources, done.bad)


def _sorted_rows(
    tables: Mapping[str, TableFile], entry: str, label: str, separator: str | None, given: str
) -> tuple[dict[str, LabelledRows], bool, bool]:
    """Reads the rows of all splits.

    Returns:
        The rows by split, whether the examples are images, and whether rows are multi-label. The
        first table determines both.
    """
    rows = {part: table.read([entry, label]) for part, table in tables.items()}
    require_rows(
        given,
        {part: len(table_rows.numbers) + len(table_rows.bad) for part, table_rows in rows.items()},
    )
    first = next(iter(rows.values())).columns
    if are_zeros_and_ones(first[label]):
        raise ConfigError(
            f"dataset.path: column {label} must hold a label, or a list of the labels of the example. "
            f"Received: {first[label][0]} and other lists of 0 and 1 of one length. Give the names or "
            "indices of the classes that are 1."
        )
    images = holds_images(entry, first[entry], next(iter(tables.values())).path.parent)
    multi_label = separator is not None or any(isinstance(value, list) for value in first[label])
    done = {
        part: labelled_rows(
            part, table, rows[part], entry, label,
            images=images, multi_label=multi_label, separator=separator,
        )
        for part, table in tables.items()
    }  # fmt: skip
    leaving = [
        leaving_problem(tables[part], entry, rows) for part, rows in done.items() if rows.leaving
    ]
    if leaving:
        raise ConfigError(leaving)
    return done, images, multi_label


def _input(table: TableFile) -> str:
    found = [name for name in ("text", "image") if name in table.columns]
    if len(found) == 1:
        return found[0]
    raise ConfigError(
        f"dataset.columns.input must name the column of texts or images in {table.path.name}. "
        f"Received: null, but {'both' if found else 'neither'} of text and image "
        f"{'are columns' if found else 'is a column'}. "
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
            "dataset.columns.input and dataset.columns.label must be different columns. Received: "
            f"{entry} for both. Name the column of texts or images."
        )
    if problems:
        raise ConfigError(problems)


def _refuse_unnamed(root: Path, layout: TableLayout, columns: tuple[str, str], given: str) -> None:
    """Refuses tables next to those of splits that look like the missing split."""
    missing = [split for split in SPLITS if split not in layout.files]
    alike = []
    for name in layout.unused if missing else ():
        try:
            alike += [name] if {*columns} <= {*open_table(root / name).columns} else []
        except ConfigError:  # a table that cannot be read is not a split
            continue
    if alike:
        raise ConfigError(
            f"{WHERE} with usual names of splits. Received: {given} without a table "
            f"{' or '.join(missing)}, but with {listed_names(alike)}, which have the same columns. Give "
            f"the tables of splits one of their usual names: {USUAL_NAMES}. If these tables are not "
            "splits, move them out of DIR."
        )


def _targets(
    tables: Mapping[str, TableFile],
    label: str,
    done: Mapping[str, LabelledRows],
    multi_label: bool,
    given: str,
    skip: bool,
    alone: bool = False,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the label indices of each split, and the classes of the first one, train.

    A split that is read `alone` may have any number of classes.
    """
    bad = [sample for rows in done.values() for sample in rows.bad]
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
            encode = multi_hot if multi_label else indices
            names: list[Any] = rows.names if multi_label else [row[0] for row in rows.names]
            targets[part] = encode(where, names, classes, counted)
    except ConfigError as error:
        if bad and not skip:  # fixing a row may fix this too
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

"""The table of each split of a dataset, and the errors for ambiguous layouts."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from finetune.datasets.bad_samples import listed_names, printable
from finetune.datasets.memory import memory_budget
from finetune.datasets.names import SPLITS, USUAL_NAMES, split_of
from finetune.datasets.sources.listing import entries_of
from finetune.datasets.sources.misplaced import what_it_is
from finetune.datasets.sources.table_files import TABLE_SUFFIXES
from finetune.errors import ConfigError

WHERE = "dataset.path must be a table or a directory of tables"
NEEDS = (
    "It needs DIR/train, DIR/validation and DIR/test with one of the suffixes "
    f"{', '.join(TABLE_SUFFIXES)}, or one such file."
)
_DEPTH, _MOST = 3, 200  # levels of folders to search for tables, and folders per level
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")  # Hugging Face's names for the files of a split


@dataclass(frozen=True)
class TableLayout:
    """The tables of a dataset.

    Args:
        files: The table of each split. A single table counts as the requested split.
        unused: Names of the other tables next to them.
        ignored: Number of entries next to them that are not data, by kind.
    """

    files: dict[str, Path]
    unused: tuple[str, ...] = ()
    ignored: Counter[str] = field(default_factory=Counter)


def find_tables(root: Path, given: str, lead: str) -> TableLayout:
    """Finds the table of each split of a dataset.

    Args:
        root: Directory of tables, or one table.
        given: The same path as the user typed it.
        lead: Required split, which a single table counts as.

    Raises:
        ConfigError: If the path is neither, a split has two tables, `lead` has none, or the tables
            do not fit into memory.
    """
    if os.path.isdir(root):
        found = _in_directory(root, given, lead)
    elif root.suffix.lower() in TABLE_SUFFIXES and os.path.isfile(root):
        found = TableLayout({lead: root})
    else:
        raise ConfigError(f"{WHERE}. Received: {given}, {what_it_is(root, 'table')} {NEEDS}")
    size, budget = sum(file.stat().st_size for file in found.files.values()), memory_budget()
    if size > budget:  # rows can only be chosen after their labels are read
        raise ConfigError(
            "dataset.path must be tables that fit into half of the free memory. Received: "
            f"{given} of {size / 2**30:.1f} GiB, more than the {budget / 2**30:.1f} GiB available. "
            "Remove rows or columns."
        )
    return found


def _in_directory(root: Path, given: str, lead: str) -> TableLayout:
    ignored: Counter[str] = Counter()
    entries = sorted((entry.name, folder) for entry, folder in entries_of(root, ignored))
    tables = [name for name, folder in entries if not folder and _is_table(name)]
    splits: dict[str, list[str]] = {}
    strange = []
    for name, folder in entries:
        split = None if folder else split_of(_stem(name))
        if split is not None and _is_table(name):
            splits.setdefault(split, []).append(name)
        elif split is not None:
            strange.append(name)
    problems = [f"{WHERE}. Received: {given} with {printable(name)}. {NEEDS}" for name in strange]
    for split, names in splits.items():
        if len(names) > 1:
            parts = all(_SHARD.search(os.path.splitext(name)[0]) for name in names)
            fix = "Join them into one file" if parts else "Keep one of them"
            problems.append(
                f"{WHERE} with one table per split. Received: {given} with "
                f"{listed_names(names, ' and ')} for {split}. {fix}."
            )
    if not problems and lead not in splits:
        folders = [name for name, folder in entries if folder]
        problems.append(
            f"{WHERE}. Received: {given}, without a table {lead}{_instead(root, tables, folders)}. "
            f"{NEEDS}"
        )
    if problems:
        raise ConfigError(problems)
    files = {split: root / splits[split][0] for split in SPLITS if split in splits}
    unused = [name for name in tables if root / name not in files.values()]
    return TableLayout(files, tuple(map(printable, unused)), ignored)


def _entries(folder: Path) -> list[tuple[str, bool]]:
    try:
        return sorted((entry.name, is_folder) for entry, is_folder in entries_of(folder))
    except OSError:
        return []


def _is_table(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in TABLE_SUFFIXES


def _stem(name: str) -> str:
    """Returns the name of a table without its suffixes and the number of a single part."""
    return _SHARD.sub("", name.split(".")[0])


def _instead(root: Path, tables: list[str], folders: list[str]) -> str:
    """Returns what a directory holds instead of the required table."""
    if tables:
        paths = listed_names((str(root / name) for name in tables), " or dataset.path=")
        return (
            f", but with {listed_names(tables)}. Give the tables of splits one of their usual names "
            f"({USUAL_NAMES}), or use a single table, which is then split: dataset.path={paths}"
        )
    inner = [root / folder for folder in folders]
    for _ in range(_DEPTH):
        below = [(folder, _entries(folder)) for folder in inner[:_MOST]]
        for folder, entries in below:
            if any(_is_table(name) for name, is_folder in entries if not is_folder):
                return f", but with tables in {printable(folder.name)}. Use dataset.path={folder}"
        inner = [folder / name for folder, entries in below for name, deep in entries if deep]
    if folders:
        return ". Use dataset=image_folder for folders of images"
    return ""

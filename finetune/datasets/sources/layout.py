"""The folder of each split of a dataset, and the errors for ambiguous layouts."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.datasets.bad_samples import listed_names, printable
from finetune.datasets.images.files import is_image
from finetune.datasets.names import SPLITS, USUAL_NAMES, plain, split_of, suggested_split
from finetune.datasets.sources.listing import entries_of
from finetune.datasets.sources.misplaced import what_it_is
from finetune.errors import ConfigError

WHERE = "dataset.path must be a folder of images"
NEEDS = "It needs DIR/{train,validation,test}/CLASS/FILE, or DIR/CLASS/FILE."
_RENAME = f"Give split folders one of their usual names: {USUAL_NAMES}"
_DEPTH = 3  # levels of folders below dataset.path that are searched for splits
_MOST = 2000  # maximum number of folders to look into


@dataclass(frozen=True)
class Layout:
    """The folders of a dataset.

    Args:
        splits: The folder of each split; empty if `root` itself contains the classes.
        unused: Names of folders next to those of the splits.
        ignored: Number of entries next to them that are not data, by kind.
    """

    splits: dict[str, Path] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Look:
    """The entries of one folder: subfolders, the number of images, and what is not data."""

    folders: tuple[str, ...] = ()
    images: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


def find_layout(root: Path, given: str) -> Layout:
    """Finds the folder of each split of a dataset.

    Args:
        root: Root folder of the dataset.
        given: The same path as the user typed it.

    Raises:
        ConfigError: If the path is not a folder, or the layout is ambiguous: two folders for one
            split, class folders next to split folders, splits with unusual names, or a dataset that
            is nested one level too deep.
    """
    if not os.path.isdir(root):  # pathlib's method raises without permission
        raise ConfigError(f"{WHERE}. Received: {given}, {what_it_is(root, 'image_folder')} {NEEDS}")
    top = _look(root)
    splits: dict[str, list[str]] = {}
    for name in top.folders:
        splits.setdefault(split_of(name) or "", []).append(name)
    others = splits.pop("", [])
    if not splits:
        problems = list(_hidden_splits(root, given, top))
    else:
        problems = list(_ambiguous(root, given, splits, others)) or [
            *_inside(root, splits),
            *_unnamed(root, given, splits, others),
        ]
    if problems:
        raise ConfigError(problems)
    found = {split: root / splits[split][0] for split in SPLITS if split in splits}
    return Layout(found, tuple(others) if found else (), top.ignored if found else Counter())


def _look(folder: Path) -> _Look:
    ignored: Counter[str] = Counter()
    folders, images = [], 0
    try:
        for entry, is_folder in entries_of(folder, ignored):
            if is_folder:
                folders.append(entry.name)
            else:
                images += is_image(entry.path)
    except OSError:
        pass  # the listing reports it
    return _Look(tuple(sorted(folders)), images, ignored)


def _ambiguous(
    root: Path, given: str, splits: dict[str, list[str]], others: Sequence[str]
) -> Iterator[str]:
    """Yields the problems of a layout in which some folders are named like splits."""
    for split, names in splits.items():
        if len(names) > 1:
            yield (
                f"{WHERE} with one folder per split. Received: {given} with "
                f"{listed_names(names, ' and ')} for {split}. Keep one of them, or move the images of "
                "the other into it."
            )
    classes = [name for name in others if _look(root / name).images]
    if classes:
        there = listed_names(name for names in splits.values() for name in names)
        yield (
            f"{WHERE} in split folders or in class folders. Received: {given} with both: splits "
            f"({there}) and folders of images next to them ({listed_names(classes)}). Move the class "
            "folders into the split folders, and other images out of DIR. If all of these folders are "
            "classes, move them into DIR/train."
        )


def _inside(root: Path, splits: dict[str, list[str]]) -> Iterator[str]:
    """Yields the splits without class folders, or with class folders one level too deep."""
    for split, names in splits.items():
        look = _look(root / names[0])
        if look.images and not look.folders:
            yield (
                f"{WHERE} in class folders. Received: {root / names[0]}, which holds "
                f"{look.images:,} images and no class folder. Put the images of each class into a "
                f"folder named after it. If the classes are unknown, move {printable(names[0])} "
                "out of DIR."
            )
        elif len(look.folders) == 1 and not look.images:
            inner = root / names[0] / look.folders[0]
            below = _look(inner)
            if len(below.folders) > 1 and not below.images:
                yield (
                    f"{WHERE} in class folders. Received: {root / names[0]}, which contains only "
                    f"the folder {printable(look.folders[0])}, with {listed_names(below.folders)} in "
                    f"it. If these are the classes, move them up into {root / names[0]} ({split})."
                )


def _unnamed(
    root: Path, given: str, splits: dict[str, list[str]], others: Sequence[str]
) -> Iterator[str]:
    """Yields the folders next to splits that look like the missing split."""
    missing = [split for split in SPLITS if split not in splits]
    classes = {plain(name) for names in splits.values() for name in _look(root / names[0]).folders}
    alike = [
        name
        for name in others
        if (inner := {plain(folder) for folder in _look(root / name).folders}) and inner <= classes
    ]
    if missing and alike:
        yield (
            f"{WHERE} in split folders with usual names. Received: {given} without a folder "
            f"{' or '.join(missing)}, but with {listed_names(alike)}, which contain the same class "
            f"folders. {_RENAME}. If these folders are not splits, move them out of DIR."
        )


def _hidden_splits(root: Path, given: str, top: _Look) -> Iterator[str]:
    """Yields the most likely problem of a layout in which no folder is named like a split."""
    if not top.folders:
        if top.images:
            yield (
                f"{WHERE} in class folders. Received: {given}, which holds {top.images:,} images and "
                "no class folder. Put the images of each class into a folder named after it, or list "
                "them in a table with the columns image and label and use dataset=table."
            )
        return
    below = {name: _look(root / name) for name in top.folders}
    deeper = _with_splits(root, below)
    chain = None if deeper or top.images else _only_way_down(root, top)
    suggested = [split for name in top.folders if (split := suggested_split(name)) is not None]
    if deeper and len(deeper) > 1 and all(_is_class_first(folder) for folder in deeper):
        yield (
            f"{WHERE} with the split above the class. Received: {given}, whose folders "
            f"{listed_names(folder.name for folder in deeper)} hold split folders. Move the images to "
            "DIR/train/CLASS/FILE, DIR/test/CLASS/FILE and so on."
        )
    elif deeper or chain is not None:
        places = deeper or [chain]
        yield (
            f"{WHERE} with its classes or splits directly in it. Received: {given}, which holds "
            f"them one level too deep. Use dataset.path={listed_names(map(str, places), ' or dataset.path=')}"
        )
    elif len(set(suggested)) > 1 and 2 * len(suggested) >= len(top.folders):
        yield (
            f"{WHERE} in split folders or in class folders. Received: {given} with "
            f"{listed_names(top.folders)}, which look like splits under unusual names. {_RENAME}."
        )
    elif _same_inside(list(below.values())):
        names = sorted({name for look in below.values() for name in look.folders})
        yield (
            f"{WHERE} in split folders or in class folders. Received: {given}, whose folders "
            f"{listed_names(top.folders)} hold only subfolders, with the same names in each "
            f"({listed_names(names)}), as splits do. {_RENAME}. If they are classes, move their images "
            "directly into them."
        )


def _same_inside(looks: Sequence[_Look]) -> bool:
    """Returns whether folders hold only subfolders, with the same names in all of them."""
    inner = [set(look.folders) for look in looks]
    most = max(inner, key=len)
    alike = all(names and names <= most for names in inner)
    return alike and len(inner) > 1 and len(most) > 1 and not any(look.images for look in looks)


def _with_splits(root: Path, below: dict[str, _Look]) -> list[Path]:
    """Returns the folders closest to the root that contain at least two splits."""
    level = {root / name: look for name, look in below.items()}
    looked = len(level)
    for _ in range(_DEPTH):
        found = [
            folder
            for folder, look in level.items()
            if len({split_of(name) for name in look.folders} - {None}) > 1
        ]
        if found:
            return sorted(found)
        inner = [folder / name for folder, look in level.items() for name in look.folders]
        looked += len(inner)
        if looked > _MOST:
            break
        level = {folder: _look(folder) for folder in inner}
    return []


def _is_class_first(folder: Path) -> bool:
    """Returns whether a folder is a class whose images are in split folders."""
    return all(_look(folder / name).images for name in _look(folder).folders if split_of(name))


def _only_way_down(root: Path, top: _Look) -> Path | None:
    """Returns the first folder with several subfolders below a chain of single ones, or None."""
    folder, look = root, top
    while len(look.folders) == 1 and not look.images:
        folder = folder / look.folders[0]
        look = _look(folder)
        if len(folder.relative_to(root).parts) > _DEPTH:
            return None
    named = [name for name in look.folders if split_of(name) is not None]
    return folder if folder != root and (len(look.folders) > 1 or named) else None

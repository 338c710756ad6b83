"""Which folder of a dataset is which split; whatever could be meant otherwise is refused."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.datasets.bad_samples import listed_names, printable
from finetune.datasets.image_files import is_image
from finetune.datasets.listing import entries_of
from finetune.datasets.misplaced import what_it_is
from finetune.datasets.names import SPLITS, USUAL_NAMES, split_of, suggested_split
from finetune.errors import ConfigError

WHERE = "dataset.path must be a folder of images"
NEEDS = "It needs DIR/{train,validation,test}/CLASS/FILE, or DIR/CLASS/FILE."
_DEPTH = 3  # folders below dataset.path that are searched for splits
_MOST = 2000  # folders that are looked into


@dataclass(frozen=True)
class Layout:
    """The folders of a dataset.

    Args:
        splits: the folder of each split; none: the classes are in `root` itself.
        unused: names of folders beside those of the splits.
        ignored: how many entries beside them are no data, by kind.
    """

    splits: dict[str, Path] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Look:
    """What is directly in a folder: names of folders, the number of images, and what is no data."""

    folders: tuple[str, ...] = ()
    images: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


def find_layout(root: Path, given: str) -> Layout:
    """Returns which folder of a dataset is which split.

    Args:
        root: of the dataset.
        given: the same as it was typed.

    Raises:
        ConfigError: for a path that is no folder, and for folders that could be meant otherwise: two
            of one split, classes beside splits, splits under names that are not known, a dataset
            that is one level too deep.
    """
    if not os.path.isdir(root):  # pathlib's raises where it may not look
        raise ConfigError(f"{WHERE}. Received: {given}, {what_it_is(root, 'image_folder')} {NEEDS}")
    top = _look(root)
    splits: dict[str, list[str]] = {}
    for name in top.folders:
        splits.setdefault(split_of(name) or "", []).append(name)
    others = splits.pop("", [])
    if not splits:
        problems = list(_hidden_splits(root, given, top))
    else:
        problems = [*_ambiguous(root, given, splits, others), *_inside(root, splits)]
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
        pass  # the listing names it
    return _Look(tuple(sorted(folders)), images, ignored)


def _ambiguous(
    root: Path, given: str, splits: dict[str, list[str]], others: Sequence[str]
) -> Iterator[str]:
    """Yields what could be meant otherwise of folders of which some are splits."""
    for split, names in splits.items():
        if len(names) > 1:
            yield (
                f"{WHERE}, one for a split. Received: {given} with {listed_names(names, ' and ')} for "
                f"{split}. Keep one of them, or move the images of the other into it."
            )
    classes = [name for name in others if _look(root / name).images]
    if classes:
        there = listed_names(name for names in splits.values() for name in names)
        yield (
            f"{WHERE}, of classes or of splits. Received: {given} with folders that are named as "
            f"splits ({there}) and folders of images beside them ({listed_names(classes)}). Move the "
            "folders of classes into those of the splits, and all else out of it; if all of them "
            "are classes, move them into DIR/train."
        )


def _inside(root: Path, splits: dict[str, list[str]]) -> Iterator[str]:
    """Yields splits whose folders hold no folders of classes, or hold them one level too deep."""
    for split, names in splits.items():
        look = _look(root / names[0])
        if look.images and not look.folders:
            yield (
                f"{WHERE}, one for each class. Received: {root / names[0]}, which holds "
                f"{look.images:,} images and no folder of a class. Put the images of each class "
                f"into a folder with its name; or, if their classes are not known, move "
                f"{printable(names[0])} elsewhere."
            )
        elif len(look.folders) == 1 and not look.images:
            inner = root / names[0] / look.folders[0]
            below = _look(inner)
            if len(below.folders) > 1 and not below.images:
                yield (
                    f"{WHERE}, one for each class. Received: {root / names[0]}, which holds the "
                    f"one folder {printable(look.folders[0])}, and that one holds "
                    f"{listed_names(below.folders)}. If these are the classes, move them up into "
                    f"{root / names[0]} ({split})."
                )


def _hidden_splits(root: Path, given: str, top: _Look) -> Iterator[str]:
    """Yields how folders of which none is named as a split may hide splits, the likeliest alone."""
    if not top.folders:
        if top.images:
            yield (
                f"{WHERE}, one for each class. Received: {given}, which holds {top.images:,} images "
                "and no folder of a class. Put the images of each class into a folder with its "
                "name, or list them in a table with the columns image and label: dataset=table."
            )
        return
    rename = f"Name the folders of splits as usual: {USUAL_NAMES}"
    below = {name: _look(root / name) for name in top.folders}
    deeper = _with_splits(root, below)
    chain = None if deeper or top.images else _only_way_down(root, top)
    suggested = [split for name in top.folders if (split := suggested_split(name)) is not None]
    if deeper and len(deeper) > 1 and all(_is_class_first(folder) for folder in deeper):
        yield (
            f"{WHERE}, with splits above classes. Received: {given}, whose folders "
            f"{listed_names(folder.name for folder in deeper)} hold folders that are named as splits. "
            "Turn them round: DIR/train/CLASS/FILE."
        )
    elif deeper or chain is not None:
        places = deeper or [chain]
        yield (
            f"{WHERE} or of splits itself. Received: {given}, which holds them one level too deep, "
            f"or more. Use dataset.path={listed_names(map(str, places), ' or dataset.path=')}"
        )
    elif len(set(suggested)) > 1 and 2 * len(suggested) >= len(top.folders):
        yield (
            f"{WHERE}, of classes or of splits. Received: {given} with {listed_names(top.folders)}, "
            f"which look like splits under other names. {rename}."
        )
    elif _same_inside(list(below.values())):
        names = sorted({name for look in below.values() for name in look.folders})
        yield (
            f"{WHERE}, of classes or of splits. Received: {given}, whose folders "
            f"{listed_names(top.folders)} hold no images but folders of the same names "
            f"({listed_names(names)}), as splits do. {rename}; or, if they are classes, put their "
            "images right into them."
        )


def _same_inside(looks: Sequence[_Look]) -> bool:
    """Whether folders hold folders alone, and all of them names of the one with the most."""
    inner = [set(look.folders) for look in looks]
    most = max(inner, key=len)
    alike = all(names and names <= most for names in inner)
    return alike and len(inner) > 1 and len(most) > 1 and not any(look.images for look in looks)


def _with_splits(root: Path, below: dict[str, _Look]) -> list[Path]:
    """Returns the folders below that hold two splits or more, those nearest to the root."""
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
    """Whether the splits in a folder hold images, as those of one class do."""
    return all(_look(folder / name).images for name in _look(folder).folders if split_of(name))


def _only_way_down(root: Path, top: _Look) -> Path | None:
    """Returns the folder that holds several, where only one way leads to it; None: the root does."""
    folder, look = root, top
    while len(look.folders) == 1 and not look.images:
        folder = folder / look.folders[0]
        look = _look(folder)
        if len(folder.relative_to(root).parts) > _DEPTH:
            return None
    named = [name for name in look.folders if split_of(name) is not None]
    return folder if folder != root and (len(look.folders) > 1 or named) else None

"""Images in folders that are named as their classes; split folders above them, or none."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from finetune.datasets.assembling import PARTS, Part, Rows, assemble, objects
from finetune.datasets.bad_samples import BadSample, printable, refusal
from finetune.datasets.dataset import Dataset, require_classes
from finetune.datasets.headers import IMAGE_SUFFIXES
from finetune.datasets.listing import Listing, list_folder
from finetune.errors import ConfigError, unknown_name

_WHERE = "dataset.path must be a folder of images"


def load_folder(
    path: str,
    *,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
    skip: bool = False,
) -> Dataset:
    """Loads ``DIR/{train,validation|val,test}/CLASS/FILE``, or ``DIR/CLASS/FILE``.

    A split that has no folder is taken from the training images: a tenth of them, each class in
    its share, chosen by the seed. Classes are the folder names, sorted; so are files.

    Args:
        path: DIR.
        max_samples: keep at most this many of each split, stratified; None keeps all.
        train_per_class: keep this many training images of each class; None keeps all.
        seed: chooses what is held out and the rows that are kept, 0..2**32-1.
        skip: whether bad samples are left out, not refused.

    Raises:
        ConfigError: for a layout that cannot be read, with what it should be.
    """
    root = _root(path)
    folders = _split_folders(root)
    if any(folders.values()) and folders["train"] is None:
        raise ConfigError(f"{_WHERE}. Received: {path} without a folder train. {_layout()}")
    top = folders["train"] or root
    given = {"train": top, **{part: each for part, each in folders.items() if each is not None}}
    listed = {part: list_folder(folder) for part, folder in given.items()}
    classes = _classes("train", listed["train"])
    require_classes("dataset.path", printable(str(top)), classes)
    problems = [each for part in given for each in _problems(given[part], listed[part], classes)]
    if problems:
        raise ConfigError(problems)
    ignored: Counter[str] = Counter()
    for each in listed.values():
        ignored += each.ignored
    return assemble(
        "image_folder",
        root.resolve().name,
        classes,
        {part: _rows(root, part, each, classes) for part, each in listed.items()},
        kind="image",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
        ignored=ignored,
    )


def folder_part(path: str, part: str) -> Part:
    """Lists the images of one split by itself: ``DIR/part/CLASS/FILE``, or all of ``DIR/CLASS/FILE``.

    Args:
        path: DIR.
        part: train, validation or test.

    Raises:
        ConfigError: as `load_folder`; also where there are other splits, and not this one.
    """
    root = _root(path)
    folders = _split_folders(root)
    top = folders[part]
    if top is None and any(folders.values()):
        there = ", ".join(name for name, folder in folders.items() if folder is not None)
        raise ConfigError(
            f"{_WHERE}. Received: {path} without a folder {part}; it has {there}. Name another "
            f"split, or add {part}."
        )
    listed = list_folder(top or root)
    where = "all" if top is None else part
    classes = _classes(where, listed)
    problems = list(_problems(top or root, listed, classes))
    if problems or not classes:
        raise ConfigError(problems or f"{_WHERE}. Received: {path}, which has none. {_layout()}")
    rows = _rows(root, where, listed, classes)
    return Part(root.resolve().name, None if top is None else part, classes, rows, "image")


def _root(path: str) -> Path:
    root = Path(path).expanduser()
    if not os.path.isdir(root):  # pathlib's raises where it may not look
        what = "which is a file" if os.path.exists(root) else "which is no directory"
        raise ConfigError(f"{_WHERE}. Received: {path}, {what}. {_layout()}")
    return root


def _split_folders(root: Path) -> dict[str, Path | None]:
    return {
        part: next((root / n for n in names if os.path.isdir(root / n)), None)
        for part, names in PARTS.items()
    }


def _classes(part: str, listed: Listing) -> list[str]:
    if not listed.folders and listed.bad:
        raise refusal([BadSample(part, printable(str(p)), why) for p, why in listed.bad])
    return sorted(listed.folders)


def _layout() -> str:
    return (
        "It needs DIR/{train,validation,test}/CLASS/FILE, or DIR/CLASS/FILE, with files "
        f"{', '.join(IMAGE_SUFFIXES)}."
    )


def _problems(folder: Path, listed: Listing, classes: Sequence[str]) -> Iterator[str]:
    """Yields what is wrong with the folders of a split: unknown, empty, not to be written down."""
    for name, images in listed.folders.items():
        shown = printable(name)
        if name != shown:
            yield f"{_WHERE}, named in UTF-8. Received: {folder / shown}. Rename the folder."
        elif name not in classes:
            message = unknown_name(f"{folder.name}/", "a class of train", name, classes)
            yield f"{_WHERE}: {message}"
        elif not images and not any(path.is_relative_to(folder / name) for path, _ in listed.bad):
            yield f"{_WHERE}. Received: {folder / name}, which has no image. {_layout()}"


def _rows(root: Path, part: str, listed: Listing, classes: Sequence[str]) -> Rows:
    """Returns the images of a split, by class and by name."""
    named = [
        (classes.index(name), path) for name in classes for path in listed.folders.get(name, [])
    ]

    def source(path: Path) -> str:
        return printable(str(path.relative_to(root)))

    return Rows(
        objects([path for _, path in named]),
        np.asarray([label for label, _ in named], np.int64),
        objects([source(path) for _, path in named]),
        [BadSample(part, source(path), reason) for path, reason in listed.bad],
    )

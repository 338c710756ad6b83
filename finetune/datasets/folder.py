"""Images in folders that are named as their classes; split folders above them, or none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.datasets.assembling import IMAGE_SUFFIXES, PARTS, Rows, assemble, objects
from finetune.datasets.dataset import Dataset, require_classes
from finetune.errors import ConfigError, unknown_name

_WHERE = "dataset.path must be a folder of images"


def load_folder(
    path: str,
    *,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
) -> Dataset:
    """Loads ``DIR/{train,validation|val,test}/CLASS/FILE``, or ``DIR/CLASS/FILE``.

    A split that has no folder is taken from the training images: a tenth of them, each class in
    its share, chosen by the seed. Classes are the folder names, sorted; so are files.

    Args:
        path: DIR.
        max_samples: keep at most this many of each split, stratified; None keeps all.
        train_per_class: keep this many training images of each class; None keeps all.
        seed: chooses what is held out and the rows that are kept, 0..2**32-1.

    Raises:
        ConfigError: for a layout that cannot be read, with what it should be.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "which is a file" if root.exists() else "which is no directory"
        raise ConfigError(f"{_WHERE}. Received: {path}, {what}. {_layout()}")
    folders = {
        part: next((root / n for n in names if (root / n).is_dir()), None)
        for part, names in PARTS.items()
    }
    if any(folders.values()) and folders["train"] is None:
        raise ConfigError(f"{_WHERE}. Received: {path} without a folder train. {_layout()}")
    top = folders["train"] or root
    classes = sorted(each.name for each in top.iterdir() if _counts(each))
    require_classes("dataset.path", str(top), classes)
    parts = {"train": _rows(root, top, classes)}
    for part in ("validation", "test"):
        folder = folders[part]
        if folder is not None:
            parts[part] = _rows(root, folder, classes)
    return assemble(
        "image_folder",
        root.resolve().name,
        classes,
        parts,
        kind="image",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
    )


def _layout() -> str:
    return (
        "It needs DIR/{train,validation,test}/CLASS/FILE, or DIR/CLASS/FILE, with files "
        f"{', '.join(IMAGE_SUFFIXES)}."
    )


def _counts(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _rows(root: Path, folder: Path, classes: Sequence[str]) -> Rows:
    """Lists the images of a split; every class of it must be one of `classes`."""
    paths: list[Path] = []
    labels: list[int] = []
    problems = []
    for each in sorted(each for each in folder.iterdir() if _counts(each)):
        if each.name not in classes:
            message = unknown_name(f"{folder.name}/", "a class of train", each.name, classes)
            problems.append(f"{_WHERE}: {message}")
            continue
        images = _images(each)
        empty = next((file for file in images if file.stat().st_size == 0), None)
        if not images or empty is not None:
            what = "which has no image" if empty is None else f"where {empty.name} is empty"
            problems.append(f"{_WHERE}. Received: {each}, {what}. {_layout()}")
        paths += images
        labels += [classes.index(each.name)] * len(images)
    if problems:
        raise ConfigError(problems)
    sources = objects([str(path.relative_to(root)) for path in paths])
    return Rows(objects(paths), np.asarray(labels, np.int64), sources)


def _images(folder: Path) -> list[Path]:
    """Lists the images at any depth, in an order that does not depend on the place of `folder`."""
    found = {
        file.relative_to(folder).parts: file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
    }
    return [found[parts] for parts in sorted(found) if not any(p.startswith(".") for p in parts)]

"""Images in folders that are named as their classes; split folders above them, or none."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from finetune.datasets import splits as selection
from finetune.datasets.dataset import (
    Dataset,
    Split,
    chosen_rows,
    make_dataset,
    require_classes,
    too_large,
)
from finetune.errors import ConfigError, unknown_name

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
HELD_OUT = 0.1  # share of the images for each split that has no folder
_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_WHERE = "dataset.path must be a folder of images"
_Files = list[tuple[Path, int]]


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
        raise ConfigError(f"{_WHERE}. Received: {path}, which is no directory. {_layout()}")
    folders = {
        part: next((root / n for n in names if (root / n).is_dir()), None)
        for part, names in _FOLDERS.items()
    }
    if any(folders.values()) and folders["train"] is None:
        raise ConfigError(f"{_WHERE}. Received: {path} without a folder train. {_layout()}")
    top = folders["train"] or root
    classes = sorted(each.name for each in top.iterdir() if _counts(each))
    require_classes("dataset.path", str(top), classes)
    files = {"train": _files(top, classes)}
    for part in ("validation", "test"):
        folder = folders[part]
        if folder is not None:
            files[part] = _files(folder, classes)
    files = _hold_out(files, seed)
    budget = psutil.virtual_memory().available // 2
    loaded = {}
    for part in _FOLDERS:
        labels = np.asarray([label for _, label in files[part]], np.int64)
        per_class = train_per_class if part == "train" else None
        kept = chosen_rows(labels, per_class, max_samples, seed)
        loaded[part] = _read(part, [files[part][row] for row in kept], budget, str(root))
        budget -= sum(map(len, loaded[part].examples))
    return make_dataset(root.resolve().name, [], classes, loaded)


def _layout() -> str:
    return (
        "It needs DIR/{train,validation,test}/CLASS/FILE, or DIR/CLASS/FILE, with files "
        f"{', '.join(SUFFIXES)}."
    )


def _counts(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _files(folder: Path, classes: Sequence[str]) -> _Files:
    """Lists the images of a split; every class of it must be one of `classes`."""
    found: _Files = []
    problems = []
    for each in sorted(each for each in folder.iterdir() if _counts(each)):
        if each.name not in classes:
            message = unknown_name(f"{folder.name}/", "a class of train", each.name, classes)
            problems.append(f"{_WHERE}: {message}")
            continue
        images = sorted(file for file in each.rglob("*") if file.suffix.lower() in SUFFIXES)
        empty = next((file for file in images if file.stat().st_size == 0), None)
        if not images or empty is not None:
            what = "which has no image" if empty is None else f"where {empty.name} is empty"
            problems.append(f"{_WHERE}. Received: {each}, {what}. {_layout()}")
        found += [(file, classes.index(each.name)) for file in images]
    if problems:
        raise ConfigError(problems)
    return found


def _hold_out(files: Mapping[str, _Files], seed: int) -> dict[str, _Files]:
    """Takes the splits that have no folder from the training images."""
    done = dict(files)
    number = round(HELD_OUT * len(files["train"]))
    for part in ("validation", "test"):
        if part in done:
            continue
        labels = np.asarray([label for _, label in done["train"]])
        chosen = set(selection.limit(labels, number, seed).tolist())
        if not 0 < number < len(labels):
            raise ConfigError(
                f"{_WHERE}. Received: {len(labels)} images, too few to hold a tenth out as {part}. "
                f"Add a folder {part}."
            )
        done[part] = [each for row, each in enumerate(done["train"]) if row in chosen]
        done["train"] = [each for row, each in enumerate(done["train"]) if row not in chosen]
        log.info("no folder %s: %d training images, stratified, seed %d", part, number, seed)
    return done


def _read(part: str, files: _Files, budget: int, name: str) -> Split:
    images = np.empty(len(files), object)
    size = 0
    for row, (path, _) in enumerate(files):
        images[row] = path.read_bytes()
        size += len(images[row])
        if size > budget:
            raise too_large(name, part, row + 1, budget)
    return Split(part, images, np.asarray([label for _, label in files], np.int64))

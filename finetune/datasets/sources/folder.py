"""Images in folders named after their classes, with or without split folders above them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.datasets.assemble import Part, Rows, assemble, object_array
from finetune.datasets.bad_samples import BadSample, printable, refusal
from finetune.datasets.dataset import Dataset, Found, require_classes
from finetune.datasets.sources.layout import NEEDS, WHERE, Layout, find_layout
from finetune.datasets.sources.listing import Listing, list_folder
from finetune.errors import ConfigError, unknown_name


def load_folder(
    path: str,
    *,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
    skip: bool = False,
) -> Dataset:
    """Loads ``DIR/{train,validation,test}/CLASS/FILE``, or ``DIR/CLASS/FILE``.

    Split folders may have any usual name in any case, see `finetune.datasets.names.split_of`. A
    split without a folder is taken from the training images: a tenth of them, stratified and chosen
    by the seed. Classes are the sorted folder names, see `finetune.datasets.names.plain`. Files are
    sorted too.

    Args:
        path: DIR.
        max_samples: Maximum number of images to keep of each split, stratified; None keeps all.
        train_per_class: Number of training images to keep of each class; None keeps all.
        seed: Seed of the rows that are held out and kept, 0..2**32-1.
        skip: Whether to leave bad samples out instead of refusing them.

    Raises:
        ConfigError: If the layout cannot be read; it says what the layout should be.
    """
    root = Path(path).expanduser()
    layout = find_layout(root, path)
    if layout.splits and "train" not in layout.splits:
        raise ConfigError(f"{WHERE}. Received: {path}, without a folder train. {NEEDS}")
    given = layout.splits or {"train": root}
    listed = {part: list_folder(folder) for part, folder in given.items()}
    classes = _classes("train", listed["train"])
    require_classes("dataset.path", printable(str(given["train"])), classes)
    problems = [
        problem for part in given for problem in _problems(given[part], listed[part], classes)
    ]
    if problems:
        raise ConfigError(problems)
    return assemble(
        "image_folder",
        root.resolve().name,
        classes,
        {part: _rows(root, part, listing, classes) for part, listing in listed.items()},
        kind="image",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
        found=_found(root, layout, listed),
    )


def folder_part(path: str, part: str) -> Part:
    """Lists the images of a single split: ``DIR/part/CLASS/FILE``, or all of ``DIR/CLASS/FILE``.

    Args:
        path: DIR.
        part: Name of the split: train, validation or test.

    Raises:
        ConfigError: As for `load_folder`; also if there are other splits but not this one.
    """
    root = Path(path).expanduser()
    layout = find_layout(root, path)
    top = layout.splits.get(part)
    if top is None and layout.splits:
        raise ConfigError(
            f"{WHERE}. Received: {path}, without a folder {part}; it has "
            f"{', '.join(layout.splits)}. Choose another split, or add {part}."
        )
    listed = list_folder(top or root)
    where = "all" if top is None else part
    classes = _classes(where, listed)
    problems = list(_problems(top or root, listed, classes))
    if problems or not classes:
        raise ConfigError(problems or f"{WHERE}. Received: {path}, which contains none. {NEEDS}")
    rows = _rows(root, where, listed, classes)
    return Part(
        root.resolve().name,
        None if top is None else part,
        classes,
        rows,
        "image",
        _found(root, replace(layout, splits={} if top is None else {part: top}), {where: listed}),
    )


def _found(root: Path, layout: Layout, listed: Mapping[str, Listing]) -> Found:
    """Returns what the folders hold apart from the examples."""
    ignored = Counter(layout.ignored)
    for listing in listed.values():
        ignored += listing.ignored
    used = {part: f"{printable(folder.name)}/" for part, folder in layout.splits.items()}
    one = f"{printable(root.resolve().name)}/"
    return Found(
        used or dict.fromkeys(listed, one),
        tuple(f"{printable(name)}/" for name in layout.unused),
        dict(ignored),
    )


def _classes(part: str, listed: Listing) -> list[str]:
    if not listed.folders and listed.bad:
        raise refusal([BadSample(part, printable(str(p)), why) for p, why in listed.bad])
    return sorted(listed.folders)


def _problems(folder: Path, listed: Listing, classes: Sequence[str]) -> Iterator[str]:
    """Yields the problems of a split's folders: unknown classes, no images, unprintable names."""
    for name, images in listed.folders.items():
        places = [folder / stored for stored in listed.names[name]]
        shown = printable(name)
        if name != shown or not name:
            received = printable(str(places[0]))
            yield f"{WHERE}, named in UTF-8. Received: {received}. Rename the folder."
        elif name not in classes:
            message = unknown_name(f"{folder.name}/", "a class of train", name, classes)
            yield f"{WHERE}: {message}"
        elif not images and not any(
            path.is_relative_to(place) for path, _ in listed.bad for place in places
        ):
            yield f"{WHERE}. Received: {places[0]}, which contains no image. {NEEDS}"


def _rows(root: Path, part: str, listed: Listing, classes: Sequence[str]) -> Rows:
    """Returns the images of a split, sorted by class and name."""
    named = [
        (classes.index(name), path) for name in classes for path in listed.folders.get(name, [])
    ]

    def source(path: Path) -> str:
        return printable(str(path.relative_to(root)))

    return Rows(
        object_array([path for _, path in named]),
        np.asarray([label for label, _ in named], np.int64),
        object_array([source(path) for _, path in named]),
        [BadSample(part, source(path), reason) for path, reason in listed.bad],
    )

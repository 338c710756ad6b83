"""The files in the folder of a split: those of each class, ignored ones and bad ones."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from finetune.datasets.bad_samples import printable, unreadable
from finetune.datasets.images.files import is_image
from finetune.datasets.names import clutter, plain

Parts = tuple[str, ...]
OUTSIDE = "images outside the class folders"


@dataclass(frozen=True)
class Listing:
    """The content of a folder of classes.

    Args:
        folders: Sorted images of each class, at any depth of its folder, by class name.
        names: Names of the folders of each class as they are on disk.
        ignored: Number of files that are not images, by suffix or kind.
        bad: Paths that cannot be listed, such as broken links and unreadable folders, and why.
    """

    folders: dict[str, list[Path]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[Path, str]] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """Lists the class folders of `folder`. Links to folders are followed."""
    found = Listing()
    # The place of each folder and its parent folders: a link to one of these would never end.
    waiting: list[tuple[Parts, frozenset[tuple[int, int]]]] = [((), frozenset())]
    images: list[Parts] = []
    while waiting:
        parts, above = waiting.pop()
        here = folder.joinpath(*parts)
        try:
            status = here.stat()
            entries = list(entries_of(here, found.ignored))
        except OSError as error:
            found.bad.append((here, unreadable(error)))
            continue
        own = (status.st_dev, status.st_ino)
        if own in above:
            found.bad.append((here, "a link to one of its parent folders"))
            continue
        for entry, is_folder in entries:
            place = (*parts, entry.name)
            if is_folder:
                waiting.append((place, above | {own}))
                if not parts:
                    found.folders.setdefault(plain(entry.name), [])
                    found.names.setdefault(plain(entry.name), []).append(entry.name)
            elif is_image(entry.path):
                if parts:
                    images.append(place)
                else:
                    found.ignored[OUTSIDE] += 1
            elif entry.is_symlink() and not os.path.exists(entry.path):
                found.bad.append((folder.joinpath(*place), "a broken link"))
            else:
                suffix = os.path.splitext(entry.name)[1].lower()
                found.ignored[printable(suffix) or "without suffix"] += 1
    for place in sorted(images):
        found.folders[plain(place[0])].append(folder.joinpath(*place))
    found.bad.sort()
    return found


def entries_of(
    folder: Path, left_out: Counter[str] | None = None
) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """Yields the entries of a folder that may be data, and whether each is a folder.

    Args:
        folder: The folder.
        left_out: Counter of the entries that are not data, see `finetune.datasets.names.clutter`;
            None does not count them.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = clutter(entry.name)
            if kind is not None:
                if left_out is not None:
                    left_out[kind] += 1
                continue
            try:
                yield entry, entry.is_dir()
            except OSError:  # a link that points back to itself
                yield entry, False

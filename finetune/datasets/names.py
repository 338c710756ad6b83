"""Comparison of class and split names, and recognition of files that are not data."""

import re
import unicodedata
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
USUAL_NAMES = "train or training; validation, valid, val or dev; test or testing"
# Operating systems, file servers and notebooks leave these in folders.
_CLUTTER = {
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
_INVISIBLE = (
    "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # zero width, but not white space for str.strip
)


def plain(name: str) -> str:
    r"""Returns a name in Unicode's composed form (NFC), without invisible characters at its ends.

    >>> plain("cafe\u0301 ") == "caf\xe9"
    True
    """
    name, before = unicodedata.normalize("NFC", name), None
    while name != before:
        name, before = name.strip().strip(_INVISIBLE), name
    return name


def split_of(name: str) -> str | None:
    """Returns the split that the name of a folder, file or array means, or None.

    >>> split_of("Training"), split_of("TEST_SET"), split_of("valid"), split_of("cats")
    ('train', 'test', 'validation', None)
    """
    word = re.sub(r"[\s_-]+", "_", plain(name).casefold()).strip("_")
    return _SPLIT_OF.get(re.sub(r"_?set$", "", word))


def suggested_split(name: str) -> str | None:
    """Returns the split that one of the words in a name means, or None.

    >>> suggested_split("seg_train"), suggested_split("test2017"), suggested_split("trainers")
    ('train', 'test', None)
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", plain(name))
    found = (split_of(word) for word in words)
    return split_of(name) or next((split for split in found if split is not None), None)


def clutter(name: str) -> str | None:
    """Returns the kind under which a file that is not data is counted, or None if it may be data.

    >>> clutter(".DS_Store"), clutter("Thumbs.db"), clutter(".ipynb_checkpoints"), clutter("a.png")
    ('dot files', 'Thumbs.db', '.ipynb_checkpoints', None)
    """
    if name == ".ipynb_checkpoints" or name.casefold() in _CLUTTER:
        return name.strip()
    return "dot files" if name.startswith(".") else None


def look_alikes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns pairs of different names that a reader may mistake for the same one.

    The names in a pair differ only in case, white space or compatible characters, or are the same
    number.

    >>> look_alikes(["Cat", "dog", "cat", "1", "1.0"])
    [('Cat', 'cat'), ('1', '1.0')]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        folded = re.sub(f"[{_INVISIBLE}]", "", unicodedata.normalize("NFKC", name).casefold())
        folded = re.sub(r"[\s_-]+", " ", folded)
        if re.fullmatch(r"\d+\.0+", folded):
            folded = folded.partition(".")[0]
        if folded in first:
            pairs.append((first[folded], name))
        first.setdefault(folded, name)
    return pairs

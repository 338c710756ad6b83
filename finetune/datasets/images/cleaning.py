"""Cleaning of a split: bad samples are removed, and unusual images are converted."""

import hashlib
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune.datasets.bad_samples import BadSample, named, none_left, refusal
from finetune.datasets.dataset import Split
from finetune.datasets.images.conversion import VERSION, to_png
from finetune.datasets.images.decoding import PARALLEL, undecodable
from finetune.datasets.images.headers import CONVERT, UPRIGHT, BadImage, header_of, way_to_decode
from finetune.datasets.memory import num_bytes, too_large
from finetune.errors import ConfigError

log = logging.getLogger(__name__)

_AT_ONCE = 256  # images to convert between two checks of the memory


def clean_images(
    split: Split, unread: Mapping[int, str], *, check: bool, budget: int, name: str
) -> tuple[Split, list[BadSample]]:
    """Reads the header of each image, converts the unusual ones, and leaves out the bad ones.

    Args:
        split: Split of encoded images as they are stored.
        unread: Reason for each row that could not be read.
        check: Whether to decode each image once to see that it can be.
        budget: Number of bytes that the examples may use.
        name: Name of the dataset for the error message.

    Returns:
        The split without its bad samples, and the bad samples.

    Raises:
        ConfigError: If the converted images do not fit into memory.
    """
    reasons = dict(unread)
    ways = np.full(len(split.examples), UPRIGHT, np.int32)
    for row, data in enumerate(split.examples):
        if row not in reasons:
            try:
                ways[row] = way_to_decode(data)
            except BadImage as error:
                reasons[row] = str(error)
    if (ways != UPRIGHT).any():
        split = replace(split, identities=_identities(split.examples, ways))
        split, damaged = _converted(split, ways, budget, name)
        reasons |= damaged
    rows = np.setdiff1d(np.arange(len(ways)), list(reasons))
    if check and len(rows):
        damaged = undecodable(split.examples[rows])
        reasons |= {int(rows[row]): reason for row, reason in damaged.items()}
    return without(split, reasons)


def damaged_images(splits: Iterable[Split]) -> list[BadSample]:
    """Decodes all images of `splits` and returns those that cannot be decoded."""
    return [
        BadSample(split.name, split.source(row), reason)
        for split in splits
        if isinstance(split.examples, np.ndarray)
        and len(split.examples)
        and isinstance(split.examples[0], bytes)
        for row, reason in undecodable(split.examples).items()
    ]


def settle(
    bad: Sequence[BadSample], splits: Mapping[str, Split], skip: bool, root: Path | None = None
) -> None:
    """Logs which samples are left out, or refuses them together with all damaged ones.

    Args:
        bad: The samples that are left out.
        splits: Splits without these samples.
        skip: Whether samples may be left out.
        root: Directory that relative paths start from; None if there are no relative paths.

    Raises:
        ConfigError: If there are bad samples that may not be left out.
    """
    if bad and not skip:
        totals = {
            part: split.num_examples + sum(sample.split == part for sample in bad)
            for part, split in splits.items()
        }
        raise refusal([*bad, *damaged_images(splits.values())], totals, root)
    if bad:
        log.warning("left out %d bad samples: %s", len(bad), named(bad))


def without(split: Split, reasons: Mapping[int, str]) -> tuple[Split, list[BadSample]]:
    """Returns `split` without the rows that have a reason, and those rows as bad samples."""
    if not reasons:
        return split, []
    bad = [BadSample(split.name, split.source(row), reasons[row]) for row in sorted(reasons)]
    return split.take(np.setdiff1d(np.arange(split.num_examples), list(reasons))), bad


def typical_size(split: Split) -> tuple[int, int]:
    """Returns the median width and height of up to 100 stored images; (0, 0) without images."""
    examples = split.examples
    if not isinstance(examples, np.ndarray) or not len(examples):
        return 0, 0
    if examples.dtype != object:
        return (examples.shape[2], examples.shape[1]) if examples.ndim == 4 else (0, 0)
    rows = np.linspace(0, len(examples) - 1, min(100, len(examples))).astype(int)
    images = [example for example in examples[rows] if isinstance(example, bytes)]
    sizes = [size for image in images if all(size := header_of(image)[:2])]
    width, height = np.median(sizes, axis=0) if sizes else (0, 0)
    return int(width), int(height)


def _identities(examples: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Returns the values to digest: for converted images the original, not Pillow's output."""
    same = examples.copy()
    for row in np.flatnonzero(ways != UPRIGHT):
        same[row] = f"conversion {VERSION} ".encode() + hashlib.sha256(examples[row]).digest()
    return same


def _converted(
    split: Split, ways: np.ndarray, budget: int, name: str
) -> tuple[Split, dict[int, str]]:
    rows = np.flatnonzero(ways == CONVERT)
    if len(rows):
        log.info("%s: converting %d images", split.name, len(rows))
    examples = split.examples.copy()
    damaged: dict[int, str] = {}
    size = num_bytes(examples)
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        pngs = to_png(examples[some].tolist(), PARALLEL)
        for row, png in zip(some.tolist(), pngs, strict=True):
            if isinstance(png, BadImage):
                damaged[row] = str(png)
                continue
            size += len(png) - len(examples[row])
            examples[row] = png
        if size > budget:
            raise too_large(name, split.name, 1 + len(examples) * budget // size, budget)
    ways = np.where(ways == CONVERT, UPRIGHT, ways)
    shown = ways if (ways != UPRIGHT).any() else None  # None makes decoding simpler
    return replace(split, examples=examples, ways=shown), damaged


def require_left(
    before: Mapping[str, np.ndarray],
    splits: Mapping[str, Split],
    classes: Sequence[str],
    bad: Sequence[BadSample],
) -> None:
    """Refuses a split, or a class of train, that is empty without its bad samples.

    Args:
        before: Labels of each split, bad samples included.
        splits: Splits without bad samples.
        classes: Label names in the order of the indices.
        bad: The samples that are left out.

    Raises:
        ConfigError: If there is one; it names the split or the classes.
    """
    for part, split in splits.items():
        if not split.num_examples:
            raise none_left(part, len(before[part]), bad)
    labels = splits["train"].labels
    gone = set(before["train"].tolist()) - set(labels.tolist()) if labels.ndim == 1 else set()
    missing = [name for index, name in enumerate(classes) if index in gone]
    if missing:
        raise ConfigError(
            "dataset must have at least one usable training sample of each class. Received: none of "
            f"{', '.join(missing)}. Fix the bad samples: {named(bad)}."
        )


def repeated(splits: Mapping[str, Split]) -> dict[str, int]:
    """Returns the number of samples that two splits share, by the names of both.

    Samples are equal if all their bytes are, whatever their labels and names.

    Args:
        splits: Splits of a dataset, with their digests.
    """
    found = {}
    for one, other in itertools.combinations(splits.values(), 2):
        count = 0
        if one.digests is not None and other.digests is not None:
            count = int(np.isin(other.digests, one.digests).sum())
        if count:
            found[f"{one.name} and {other.name}"] = count
    return found

"""A few training examples as the model receives them, and the number of examples per class."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader, TextReader
from finetune.evaluation.previews import pixels_of, text_of
from finetune.record.schema import Sample
from finetune.storage.durable import storing, write_atomically

PLACE = "plots/samples"
MOST = 8
LONGER_SIDE = 224  # pixels; larger pictures are scaled down
EXACT_SIDE = 64  # pixels; pictures up to this size are lossless PNG files
TOKENS = 32  # tokens of a text in the record
EPOCH = 0  # epoch of the augmentation that is shown


def class_counts(split: Split, num_classes: int) -> list[int]:
    """Returns the number of examples of each class, in the order of the classes."""
    if split.labels.ndim == 2:
        return split.labels.sum(axis=0, dtype=np.int64).tolist()
    return np.bincount(split.labels, minlength=num_classes).tolist()


def take_samples(examples: Examples, classes: Sequence[str], directory: Path) -> list[Sample]:
    """Returns up to eight examples as the model receives them, and writes their pictures.

    Args:
        examples: Examples of the training split.
        classes: Label names in the order of the indices.
        directory: Run directory; pictures are written to ``plots/samples``.
    """
    split = examples.split
    rows = chosen_rows(split.labels)
    samples = [Sample(split.source(row), _names(split.labels[row], classes)) for row in rows]
    reader = examples.reader
    if isinstance(reader, TextReader):
        return _with_tokens(samples, reader, split, rows)
    if isinstance(reader, ImageReader):
        return _with_pictures(samples, reader, examples, rows, classes, directory)
    shown = []
    for number, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        pixels = pixels_of(split, row) if isinstance(split.examples, np.ndarray) else None
        image = None if pixels is None else _write(pixels, f"{number:02}", directory)
        shown.append(replace(sample, image=image))
    return shown if any(sample.image for sample in shown) else []


def chosen_rows(labels: np.ndarray) -> np.ndarray:
    """Returns up to eight rows: the first row of each class, then the second of each, and so on.

    Args:
        labels: Labels as in `Split`. A multi-label example counts for its first class.
    """
    first = labels.argmax(axis=1) if labels.ndim == 2 else labels
    order = np.argsort(first, kind="stable")
    starts = np.searchsorted(first[order], first[order])
    rank = np.arange(len(order)) - starts  # position of a row within its class
    return np.sort(order[np.argsort(rank, kind="stable")[:MOST]])


def _names(label: np.ndarray, classes: Sequence[str]) -> str:
    if np.ndim(label) == 0:
        return classes[int(label)]
    return ", ".join(classes[index] for index in np.flatnonzero(label).tolist()) or "no label"


def _with_tokens(
    samples: Sequence[Sample], reader: TextReader, split: Split, rows: np.ndarray
) -> list[Sample]:
    found = reader.tokens([split.examples[row] for row in rows])
    return [
        replace(
            sample,
            text=text_of(split, row),
            tokens=tokens[:TOKENS],
            tokens_read=len(tokens),
            tokens_whole=whole,
        )
        for sample, row, (tokens, whole) in zip(samples, rows, found, strict=True)
    ]


def _with_pictures(
    samples: Sequence[Sample],
    reader: ImageReader,
    examples: Examples,
    rows: np.ndarray,
    classes: Sequence[str],
    directory: Path,
) -> list[Sample]:
    plain = reader.pictures(examples.split, rows)
    shown = [
        replace(sample, image=_write(image, f"{number:02}", directory))
        for number, (sample, image) in enumerate(zip(samples, plain, strict=True))
    ]
    if reader.augmentation is None and reader.mix is None:
        return shown
    varied = reader.pictures(examples.split, rows, EPOCH)
    labels: Sequence[str | None] = [None] * len(rows)
    if reader.mix is not None:
        given = (tf.constant(varied), tf.constant(examples.targets[rows]))
        images, targets = reader.mix(*given, EPOCH, rows)
        varied = np.asarray(images)
        labels = [_shares(target, classes) for target in np.asarray(targets)]
    return [
        replace(
            sample,
            augmented=_write(image, f"{number:02}-augmented", directory),
            augmented_label=label,
        )
        for number, (sample, image, label) in enumerate(zip(shown, varied, labels, strict=True))
    ]


def _shares(target: np.ndarray, classes: Sequence[str]) -> str:
    """Returns ``cat 70%, dog 30%``."""
    order = [index for index in np.argsort(-target, kind="stable") if target[index] >= 0.005]
    return ", ".join(f"{classes[index]} {target[index]:.0%}" for index in order)


def _write(pixels: np.ndarray, name: str, directory: Path) -> str:
    """Writes a picture and returns its path relative to the run directory."""
    image = Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))
    exact = max(image.size) <= EXACT_SIDE
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG") if exact else image.save(file, "JPEG", quality=82)
    with storing(directory / PLACE):
        (directory / PLACE).mkdir(parents=True, exist_ok=True)
    place = f"{PLACE}/{name}.{'png' if exact else 'jpg'}"
    write_atomically(directory / place, file.getvalue())
    return place

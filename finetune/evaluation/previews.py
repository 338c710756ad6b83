"""Thumbnails of images and the start of texts, which show the examples that a model mistook."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from finetune.datasets.dataset import Split
from finetune.datasets.images.decoding import decoded
from finetune.record.schema import Mistake
from finetune.storage.durable import storing, write_atomically

PLACE = "plots/mistakes"
LONGER_SIDE = 96  # pixels
LONGEST_TEXT = 300  # characters


def illustrated(
    mistakes: Sequence[Mistake], rows: Sequence[int], split: Split, directory: Path
) -> list[Mistake]:
    """Returns mistakes with their examples, and writes a PNG file for each image.

    Args:
        mistakes: Mistakes without source, text and image.
        rows: Row of each mistake in `split`.
        split: Split of the examples. Numbers that are not an image get no thumbnail.
        directory: Run directory; thumbnails are written to ``plots/mistakes``.
    """
    if mistakes:
        with storing(directory / PLACE):
            (directory / PLACE).mkdir(parents=True, exist_ok=True)
    shown = []
    for number, (mistake, row) in enumerate(zip(mistakes, rows, strict=True)):
        text, picture = text_of(split, row), thumbnail(split, row)
        image = None
        if picture is not None:
            image = f"{PLACE}/{number:02}.png"
            write_atomically(directory / image, picture)
        shown.append(replace(mistake, source=split.source(row), text=text, image=image))
    return shown


def text_of(split: Split, row: int) -> str | None:
    """Returns the start of a text, up to 300 characters."""
    examples = split.examples
    if not isinstance(examples, np.ndarray) or not isinstance(examples[row], str):
        return None
    text = examples[row]
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def thumbnail(split: Split, row: int) -> bytes | None:
    """Returns an image as a PNG of at most 96 × 96 pixels; None if the example is not an image."""
    if not isinstance(split.examples, np.ndarray):
        return None
    pixels = pixels_of(split, row)
    if pixels is None:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pixels_of(split: Split, row: int) -> np.ndarray | None:
    """Returns (height, width, 3) or (height, width) uint8; None if the example is not an image."""
    example = split.examples[row]
    if isinstance(example, bytes):
        way = () if split.ways is None else (split.ways[row],)
        try:
            example = decoded(example, *way).numpy()
        except tf.errors.InvalidArgumentError:  # bytes of another kind, for a user's own model
            return None
    if isinstance(example, str) or example.ndim != 3 or example.shape[-1] not in (1, 3):
        return None
    values = np.asarray(example, np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        return None
    if low < 0 or high > 255 or (high <= 1 and example.dtype.kind == "f"):  # not 0..255
        values = (values - low) * (255 / ((high - low) or 1.0))
    return values.round().astype(np.uint8)[..., 0 if values.shape[-1] == 1 else slice(None)]

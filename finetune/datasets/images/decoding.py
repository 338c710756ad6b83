"""Encoded images to pixels: upright, and over white where they are transparent."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.datasets.images.headers import ALPHA, DAMAGED, BadImage, way_to_decode

# Examples that are made at once. Fixed: TensorFlow's own search for a number starts again with every
# iterator, at times ends at one, and lets the end of an iterator wait for its next round.
PARALLEL = len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else 4


def decoded(example: Any, way: Any = None) -> tf.Tensor:
    """Returns (height, width, 3) uint8, all 0..255.

    Args:
        example: an encoded image, scalar string.
        way: as `headers.way_to_decode` says, scalar integer; None: upright, no transparency.
    """
    if way is None:
        return _pixels(example, 3)
    image = tf.cond(way >= ALPHA, lambda: _over_white(example), lambda: _pixels(example, 3))
    way = way % ALPHA
    image = tf.cond(way >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    across = tf.where(tf.reduce_any(way == (2, 3, 6, 7)), -1, 1)
    down = tf.where(tf.reduce_any(way == (3, 4, 7, 8)), -1, 1)
    return tf.ensure_shape(image[::down, ::across], (None, None, 3))


def _pixels(example: Any, channels: int) -> tf.Tensor:
    image = tf.io.decode_image(example, channels=channels, expand_animations=False)
    image.set_shape((None, None, channels))
    return image


def _over_white(example: Any) -> tf.Tensor:
    image: Any = tf.cast(_pixels(example, 4), tf.int32)
    color, alpha = image[..., :3], image[..., 3:]
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def undecodable(examples: np.ndarray) -> dict[int, str]:
    """Returns the rows of images that cannot be decoded, and why; one parallel pass over all.

    Args:
        examples: (n,) object array of encoded images.
    """
    with tf.device("CPU:0"):
        held = tf.constant(list(examples), tf.string)
    rows = tf.data.Dataset.range(len(examples)).map(
        lambda row: (row, tf.shape(_pixels(held[row], 3))), PARALLEL
    )
    good = np.zeros(len(examples), bool)
    for row, _ in rows.ignore_errors().batch(1024).as_numpy_iterator():
        good[row] = True
    reasons = ((row, damage(examples[row])) for row in np.flatnonzero(~good).tolist())
    return {row: reason for row, reason in reasons if reason is not None}


def damage(example: bytes) -> str | None:
    """Returns why an image cannot be decoded, in a few words; None where it can."""
    try:
        way_to_decode(example)
        tf.io.decode_image(example, channels=3, expand_animations=False)
    except BadImage as error:
        return str(error)
    except tf.errors.InvalidArgumentError:
        return DAMAGED
    return None

"""Decoding of images to pixels: upright, and over white where they are transparent."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.datasets.images.headers import ALPHA, DAMAGED, BadImage, way_to_decode

# Number of examples to process in parallel. It is fixed because TensorFlow's autotuning starts over
# with every iterator, sometimes settles on one, and delays the end of an iterator.
PARALLEL = len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else 4


def decoded(example: Any, way: Any = None) -> tf.Tensor:
    """Returns an image as (height, width, 3) uint8 in 0..255.

    Args:
        example: Encoded image, scalar string.
        way: Way to decode it, scalar integer as in `headers.way_to_decode`; None for upright and
            opaque images.
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
    """Returns the rows of images that cannot be decoded, and why, after one parallel pass over all.

    Args:
        examples: (n,) object array of encoded images.
    """
    with tf.device("CPU:0"):
        images = tf.constant(list(examples), tf.string)
    rows = tf.data.Dataset.range(len(examples)).map(
        lambda row: (row, tf.shape(_pixels(images[row], 3))), PARALLEL
    )
    good = np.zeros(len(examples), bool)
    for row, _ in rows.ignore_errors().batch(1024).as_numpy_iterator():
        good[row] = True
    reasons = ((row, damage(examples[row])) for row in np.flatnonzero(~good).tolist())
    return {row: reason for row, reason in reasons if reason is not None}


def damage(example: bytes) -> str | None:
    """Returns a short description of why an image cannot be decoded, or None if it can."""
    try:
        way_to_decode(example)
        tf.io.decode_image(example, channels=3, expand_animations=False)
    except BadImage as error:
        return str(error)
    except tf.errors.InvalidArgumentError:
        return DAMAGED
    return None

"""Images to batches: the order of an epoch depends only on the seed and the epoch's number."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from finetune.datasets.loading import Split

CACHE_BYTES = 256 * 2**20  # decoded images up to this size are kept in memory
Prepare = Callable[[Any], Any]


def num_steps(split: Split, batch_size: int) -> int:
    """Returns the batches of one epoch; the last one may be smaller."""
    return -(-split.num_examples // batch_size)


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
) -> tf.data.Dataset:
    """Makes the shuffled batches of the epochs `first_epoch` to `last_epoch` (exclusive).

    Every epoch is a permutation of all rows; batches never span epochs, so epoch e is the same
    in whichever call it comes.

    Args:
        split: encoded images and labels.
        batch_size: images in a batch, at least 1.
        seed: 0..2**32-1.
        first_epoch: global number of the first epoch, from 0.
        last_epoch: the epoch after the last one.
        image_size: (height, width) in pixels after `prepare`.
        prepare: (height, width, 3) uint8 -> model input of `image_size`; None: bilinear resize.

    Returns:
        Batches of images (batch, height, width, 3) float32 and labels (batch,) int32.
    """
    rows = epoch_order(split.num_examples, batch_size, seed, first_epoch, last_epoch)
    steps = (last_epoch - first_epoch) * num_steps(split, batch_size)
    return _images(rows, split, steps, image_size, prepare)


def epoch_order(
    num_examples: int, batch_size: int, seed: int, first_epoch: int, last_epoch: int
) -> tf.data.Dataset:
    """Makes batches of row numbers, (batch,) int64; arguments as in `training_batches`."""

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.random.experimental.stateless_shuffle(  # type: ignore[attr-defined]
            tf.range(num_examples, dtype=tf.int64),
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        )
        return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)

    return tf.data.Dataset.range(first_epoch, last_epoch).flat_map(order)


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
    once: bool = False,
) -> tf.data.Dataset:
    """Makes the batches of one pass in stored order; arguments as in `training_batches`.

    With `once`, this pass is the only one: nothing is kept in memory for another.
    """
    if once:
        decode = _decoder(split, image_size, prepare)
        images = tf.data.Dataset.range(split.num_examples).map(decode, tf.data.AUTOTUNE)
        labels = tf.data.Dataset.from_tensor_slices(split.labels.astype(np.int32))
        batches = tf.data.Dataset.zip(images, labels).batch(batch_size)
        return _ordered(batches, num_steps(split, batch_size))
    rows = tf.data.Dataset.range(split.num_examples).batch(batch_size)
    return _images(rows, split, num_steps(split, batch_size), image_size, prepare)


def _images(
    rows: tf.data.Dataset,
    split: Split,
    steps: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
) -> tf.data.Dataset:
    with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
        labels = tf.constant(split.labels.astype(np.int32))
    if split.num_examples * image_size[0] * image_size[1] * 3 * 4 <= CACHE_BYTES:
        images = _decoded_once(split, image_size, prepare)
        batches = rows.map(
            lambda batch: (tf.gather(images, batch), tf.gather(labels, batch)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    else:
        decode = _decoder(split, image_size, prepare)

        def decode_batch(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            signature = tf.TensorSpec((*image_size, 3), tf.float32)
            images = tf.map_fn(decode, batch, fn_output_signature=signature)
            return images, tf.gather(labels, batch)

        batches = rows.map(decode_batch, num_parallel_calls=tf.data.AUTOTUNE)
    return _ordered(batches, steps)


def _ordered(batches: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _decoder(
    split: Split, image_size: tuple[int, int], prepare: Prepare | None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function from a row of `split` to its decoded and prepared image."""
    with tf.device("CPU:0"):
        encoded = tf.constant(list(split.images), dtype=tf.string)

    def decode(row: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(encoded[row], channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        image = tf.image.resize(image, image_size) if prepare is None else prepare(image)
        return tf.ensure_shape(tf.cast(image, tf.float32), (*image_size, 3))

    return decode


# Decoded images live as long as their split: phases and epochs share them.
_decoded: WeakKeyDictionary[Split, dict[tuple, tf.Tensor]] = WeakKeyDictionary()


def _decoded_once(split: Split, image_size: tuple[int, int], prepare: Prepare | None) -> tf.Tensor:
    """Returns all images of `split`, (n, height, width, 3) float32, decoding them at first use."""
    known = _decoded.setdefault(split, {})
    key = (image_size, prepare)
    if key not in known:
        decode = _decoder(split, image_size, prepare)
        every = tf.data.Dataset.range(split.num_examples).map(decode, tf.data.AUTOTUNE)
        whole = _ordered(every, split.num_examples).batch(split.num_examples)
        with tf.device("CPU:0"):
            known[key] = whole.get_single_element()
    return known[key]

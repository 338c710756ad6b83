"""Images to batches: the order of an epoch depends only on the seed and the epoch's number."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from finetune.datasets.augmentation import Augmentation
from finetune.datasets.dataset import Split

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
    augmentation: Augmentation | None = None,
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
        augmentation: of each image between resizing and scaling; None: none.

    Returns:
        Batches of images (batch, height, width, 3) float32 and labels (batch,) int32.
    """
    order = epoch_order(split.num_examples, batch_size, seed, first_epoch, last_epoch)
    steps = (last_epoch - first_epoch) * num_steps(split, batch_size)
    return _images(order, split, steps, image_size, prepare, augmentation)


def epoch_order(
    num_examples: int, batch_size: int, seed: int, first_epoch: int, last_epoch: int
) -> tf.data.Dataset:
    """Makes batches of row numbers; arguments as in `training_batches`.

    Returns:
        The epoch, int64 scalar, and its rows (batch,) int64.
    """

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.random.experimental.stateless_shuffle(  # type: ignore[attr-defined]
            tf.range(num_examples, dtype=tf.int64),
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        )
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
        return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), batches)

    return tf.data.Dataset.range(first_epoch, last_epoch).flat_map(order)


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
) -> tf.data.Dataset:
    """Makes the batches of one pass in stored order; arguments as in `training_batches`."""
    order = _stored_order(split, batch_size, 0)
    return _images(order, split, num_steps(split, batch_size), image_size, prepare, None)


def single_pass(
    split: Split,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
    augmentation: Augmentation | None,
    epoch: int,
) -> tf.data.Dataset:
    """Makes the images of one pass in stored order, as they are in an epoch.

    Without augmentation this is the only pass: no decoded image is kept for another.

    Args:
        split: encoded images and labels.
        batch_size: images in a batch, at least 1.
        image_size: (height, width) in pixels after `prepare`.
        prepare: as in `training_batches`.
        augmentation: as in `training_batches`.
        epoch: whose augmentation is wanted.
    """
    steps = num_steps(split, batch_size)
    if augmentation is not None:
        order = _stored_order(split, batch_size, epoch)
        batches = _images(order, split, steps, image_size, prepare, augmentation)
        return batches.map(lambda images, labels: images)
    decode = _decoder(split, image_size, prepare)
    images = tf.data.Dataset.range(split.num_examples).map(decode, tf.data.AUTOTUNE)
    return _ordered(images.batch(batch_size), steps)


def _stored_order(split: Split, batch_size: int, epoch: int) -> tf.data.Dataset:
    rows = tf.data.Dataset.range(split.num_examples).batch(batch_size)
    number = tf.data.Dataset.from_tensors(tf.constant(epoch, tf.int64)).repeat()
    return tf.data.Dataset.zip(number, rows)


def _images(
    order: tf.data.Dataset,
    split: Split,
    steps: int,
    image_size: tuple[int, int],
    prepare: Prepare | None,
    augmentation: Augmentation | None,
) -> tf.data.Dataset:
    with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
        labels = tf.constant(split.labels.astype(np.int32))
    resize, scale = (prepare, None) if augmentation is None else _halves(prepare)
    fits = split.num_examples * image_size[0] * image_size[1] * 3 * 4 <= CACHE_BYTES
    held = _decoded_once(split, image_size, resize) if fits else None
    read = _decoder(split, image_size, resize) if held is None else lambda row: held[row]
    signature = tf.TensorSpec((*image_size, 3), tf.float32)

    def one(epoch: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        return read(row) if augmentation is None else augmentation(read(row), epoch, row)

    def batch_of(epoch: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if held is not None and augmentation is None:
            images = tf.gather(held, rows)
        else:
            images = tf.map_fn(lambda row: one(epoch, row), rows, fn_output_signature=signature)
        return images if scale is None else scale(images), tf.gather(labels, rows)

    return _ordered(order.map(batch_of, num_parallel_calls=tf.data.AUTOTUNE), steps)


def _halves(prepare: Prepare | None) -> tuple[Prepare | None, Prepare | None]:
    """Returns what resizes (to 0..255) and what scales: augmentation comes between them."""
    if prepare is None:
        return None, None
    if prepare not in _made_halves:  # made once: decoded images are known by what resized them
        converter: Any = prepare  # of KerasHub
        config, make = converter.get_config(), type(converter).from_config
        resize = make(config | {"scale": None, "offset": None})
        _made_halves[prepare] = resize, make(config | {"image_size": None})
    return _made_halves[prepare]


_made_halves: WeakKeyDictionary[Prepare, tuple[Prepare, Prepare]] = WeakKeyDictionary()


def _ordered(batches: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _decoder(
    split: Split, image_size: tuple[int, int], prepare: Prepare | None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function from a row of `split` to its decoded and prepared image."""
    if split not in _encoded:
        with tf.device("CPU:0"):
            _encoded[split] = tf.constant(list(split.images), dtype=tf.string)
    encoded = _encoded[split]

    def decode(row: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(encoded[row], channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        image = tf.image.resize(image, image_size) if prepare is None else prepare(image)
        return tf.ensure_shape(tf.cast(image, tf.float32), (*image_size, 3))

    return decode


_encoded: WeakKeyDictionary[Split, tf.Tensor] = WeakKeyDictionary()
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

"""Batches from rows: the order of an epoch depends only on the seed and the epoch's number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.datasets.dataset import Split
from finetune.datasets.readers import Reader, gather_of

_AHEAD = 4  # batches to prefetch


@dataclass(frozen=True, eq=False)
class Examples:
    """A split together with what is needed to make batches of it.

    Args:
        split: The examples and labels.
        reader: Reader that turns rows into inputs.
        targets: Targets of the loss: (n,) int32 class indices, or (n, classes) float32.
        weights: (n,) float32 weight of each example in the training loss; None weighs all equally.
    """

    split: Split
    reader: Reader
    targets: np.ndarray
    weights: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        """The number of rows."""
        return self.split.num_examples

    def num_steps(self, batch_size: int) -> int:
        """Returns the number of batches in an epoch; the last one may be smaller."""
        return -(-self.num_examples // batch_size)


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """Makes the shuffled batches of the epochs `first_epoch` to `last_epoch` (exclusive).

    Every epoch is a permutation of all rows, and batches never span epochs. An epoch is therefore
    the same whichever call produces it.

    Args:
        examples: The training split.
        batch_size: Number of rows in a batch, at least 1.
        seed: Seed of the order, 0..2**32-1.
        first_epoch: Global number of the first epoch, from 0.
        last_epoch: Global number of the epoch after the last one.
        skip: Number of batches of the first epoch to leave out.

    Returns:
        Batches of inputs and targets, and of weights if there are any.
    """
    reader = examples.reader
    augmented = reader.augmentation is not None
    read = reader.open(examples.split, batch_size, augmented=augmented)
    answers = targets_and_weights(examples.targets, examples.weights)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = _shuffled(examples.num_examples, seed, epoch)
        rows = rows.skip(_at(first_epoch, epoch, skip * batch_size))
        epochs = tf.data.Dataset.from_tensors(epoch).repeat()
        return tf.data.Dataset.zip(epochs, read(rows, epoch), rows.batch(batch_size))

    def batch_of(epoch: tf.Tensor, inputs: Any, rows: tf.Tensor) -> tuple[Any, ...]:
        targets, *weights = answers(rows)
        if reader.mix is not None:
            inputs, targets = reader.mix(inputs, targets, epoch, rows)
        return inputs, targets, *weights

    batches = tf.data.Dataset.range(first_epoch, last_epoch).flat_map(one_epoch)
    steps = (last_epoch - first_epoch) * examples.num_steps(batch_size) - skip
    return ordered(batches.map(batch_of), steps)


def evaluation_batches(examples: Examples, *, batch_size: int) -> tf.data.Dataset:
    """Makes the batches of one pass in stored order: inputs and targets, never augmented."""
    read = examples.reader.open(examples.split, batch_size)
    inputs = read(tf.data.Dataset.range(examples.num_examples), None)
    targets = tf.data.Dataset.from_tensor_slices(examples.targets).batch(batch_size)
    return ordered(tf.data.Dataset.zip(inputs, targets), examples.num_steps(batch_size))


def single_pass(examples: Examples, *, batch_size: int, view: int | None) -> tf.data.Dataset:
    """Makes the inputs of one pass in stored order.

    Args:
        examples: The split.
        batch_size: Number of rows in a batch, at least 1.
        view: Epoch whose augmentation is applied. None applies none and keeps no decoded image.
    """
    augmented = view is not None
    read = examples.reader.open(examples.split, batch_size, augmented=augmented, keep=augmented)
    epoch = tf.constant(view or 0, tf.int64)
    inputs = read(tf.data.Dataset.range(examples.num_examples), epoch)
    return ordered(inputs, examples.num_steps(batch_size))


def epoch_order(
    num_examples: int,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """Makes batches of row numbers. See `training_batches` for the arguments.

    Returns:
        The epoch, an int64 scalar, and its rows, (batch,) int64.
    """

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = _shuffled(num_examples, seed, epoch).batch(batch_size)
        batches = batches.skip(_at(first_epoch, epoch, skip))
        return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), batches)

    return tf.data.Dataset.range(first_epoch, last_epoch).flat_map(order)


def _at(first_epoch: int, epoch: tf.Tensor, number: int) -> Any:
    """Returns `number` in the first epoch and 0 in all others."""
    return tf.where(epoch == first_epoch, tf.constant(number, tf.int64), tf.constant(0, tf.int64))


def _shuffled(num_examples: int, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    rows = tf.random.experimental.stateless_shuffle(  # type: ignore[attr-defined]
        tf.range(num_examples, dtype=tf.int64),
        seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
    )
    return tf.data.Dataset.from_tensor_slices(rows)


def targets_and_weights(
    targets: np.ndarray, weights: np.ndarray | None
) -> Callable[[Any], tuple[Any, ...]]:
    """Returns a function from rows to the (targets,) or (targets, weights) of a batch."""
    return gather_of((targets,) if weights is None else (targets, weights))


def ordered(batches: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Returns `batches` in a fixed order and prefetched; `steps` is their number."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # see `finetune.datasets.images.decoding.PARALLEL`
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return batches.prefetch(_AHEAD).with_options(options)

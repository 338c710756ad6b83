"""What a phase is fed with: its model, and the batches of its splits, stored or computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import psutil
import tensorflow as tf

from finetune.datasets.pipeline import epoch_order, ordered, targets_and_weights
from finetune.features.arrays import Entry
from finetune.features.cut import LinearHead

MEMORY_SHARE = 0.5  # of what is free: features up to this are gathered in memory


@dataclass(frozen=True, eq=False)
class Source:
    """One split, as extraction reads it.

    Args:
        num_examples: rows.
        targets: what the loss compares with, (num_examples,) int32 or (num_examples, classes).
        inputs: (rows in a batch, view or None) -> the model's inputs in stored order; a view is a
            number of an augmented one, None is no augmentation.
        fingerprint: changes with any row.
        weights: (num_examples,) float32, of each row in the training loss; None: all alike.
    """

    num_examples: int
    targets: np.ndarray
    inputs: Callable[[int, int | None], tf.data.Dataset]
    fingerprint: str = ""
    weights: np.ndarray | None = None


class Training(Protocol):
    """Makes the batches that a phase trains on."""

    def __call__(self, first: int, last: int, skip: int = 0) -> tf.data.Dataset:
        """See `Feed`."""
        ...


@dataclass(frozen=True, eq=False)
class Feed:
    """What one phase is fitted on.

    Args:
        model: the task model, or its part above a cut; both share their weights.
        training: (first epoch, last epoch exclusive, batches of the first one to skip) -> batches
            of exactly those epochs.
        validation: -> batches of the validation split.
        test: -> batches of the test split; None where another feed has them.
        num_steps: optimizer updates in one epoch.
        steps_per_execution: optimizer updates for each call into TensorFlow.
        record: the entry ``features`` of the phase's record.
        targets: by split, in stored order.
        weights: of the rows of the training split, where they differ.
        head: the head, where it is linear in features that stand still.
        head_features: yields those features of the training split, (rows, features) arrays.
        stored: what the phase reads, where it reads features: split -> entries, one a view.
    """

    model: keras.Model
    training: Training
    validation: Callable[[], tf.data.Dataset]
    test: Callable[[], tf.data.Dataset] | None
    num_steps: int
    steps_per_execution: int = 1
    record: Mapping[str, Any] = field(default_factory=lambda: {"cached": False})
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray | None = None
    head: LinearHead | None = None
    head_features: Callable[[], Iterator[np.ndarray]] | None = None
    stored: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)


def training_batches(
    views: Sequence[Entry],
    targets: np.ndarray,
    weights: np.ndarray | None,
    dtypes: Sequence[str],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """Makes the batches that `finetune.datasets.pipeline.training_batches` makes, from features.

    Args:
        views: entries; epoch e reads number e mod len(views).
        targets: as in `Source`.
        weights: as in `Source`.
        dtypes: what each tensor is above the cut, whatever it is on disk.
        batch_size: rows in a batch.
        seed: of the order, as in the pipeline.
        first_epoch: global number of the first epoch.
        last_epoch: the epoch after the last one.
        skip: batches of the first epoch to leave out.
    """
    gather = _gatherer(views, targets, weights, dtypes)
    order = epoch_order(len(targets), batch_size, seed, first_epoch, last_epoch, skip)
    steps = -(-len(targets) // batch_size)
    batches = order.map(gather)
    return ordered(batches, steps * (last_epoch - first_epoch) - skip)


def evaluation_batches(
    entry: Entry, targets: np.ndarray, dtypes: Sequence[str], *, batch_size: int
) -> tf.data.Dataset:
    """Makes the batches of one pass in stored order; arguments as in `training_batches`."""
    if _fits_memory([entry], dtypes):
        # One slice for all: an iterator of it is made in a tenth of the time of one that gathers.
        with tf.device("CPU:0"):
            held = tuple(tf.cast(a, d) for a, d in zip(entry.arrays, dtypes, strict=True))
            return tf.data.Dataset.from_tensor_slices((held, targets)).batch(batch_size)
    gather = _gatherer([entry], targets, None, dtypes)
    rows = tf.data.Dataset.range(len(targets)).batch(batch_size)
    batches = rows.map(lambda each: gather(0, each))
    return ordered(batches, -(-len(targets) // batch_size))


def _fits_memory(views: Sequence[Entry], dtypes: Sequence[str]) -> bool:
    """Tells whether the features may be held as they are above the cut."""
    needed = sum(
        array.size * tf.as_dtype(dtype).size
        for entry in views
        for array, dtype in zip(entry.arrays, dtypes, strict=True)
    )
    return needed <= psutil.virtual_memory().available * MEMORY_SHARE


def _gatherer(
    views: Sequence[Entry],
    targets: np.ndarray,
    weights: np.ndarray | None,
    dtypes: Sequence[str],
) -> Callable[[Any, tf.Tensor], Any]:
    """Returns the function from (epoch, rows) to (features, targets) or (…, weights)."""
    shapes = [array.shape[1:] for array in views[0].arrays]
    with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
        answer = targets_and_weights(targets, weights)
        if _fits_memory(views, dtypes):
            held = [
                tf.constant(arrays[0] if len(views) == 1 else np.concatenate(arrays))
                for arrays in zip(*(entry.arrays for entry in views), strict=True)
            ]
            read = _from_memory(held, len(targets))
        else:
            read = _from_disk(views)

    def gather(epoch: Any, rows: tf.Tensor) -> Any:
        view = tf.cast(epoch, tf.int64) % len(views)
        features = tuple(
            tf.cast(tf.ensure_shape(each, (None, *shape)), dtype)
            for each, shape, dtype in zip(read(view, rows), shapes, dtypes, strict=True)
        )
        return features, *answer(rows)

    return gather


def _from_memory(held: Sequence[tf.Tensor], num_rows: int) -> Callable[..., list[tf.Tensor]]:
    def read(view: tf.Tensor, rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(each, view * num_rows + rows) for each in held]

    return read


def _from_disk(views: Sequence[Entry]) -> Callable[..., list[tf.Tensor]]:
    dtypes = [tf.as_dtype(array.dtype) for array in views[0].arrays]

    def load(view: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        order = np.argsort(rows)  # ascending reads, then back
        back = np.argsort(order)
        return [np.asarray(array[rows[order]])[back] for array in views[int(view)].arrays]

    def read(view: tf.Tensor, rows: tf.Tensor) -> list[tf.Tensor]:
        return tf.numpy_function(load, [view, rows], dtypes, stateful=False)

    return read

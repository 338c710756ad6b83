"""Batches of stored features, with the rows and the order that `finetune.datasets.pipeline` gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import tensorflow as tf

from finetune.datasets.pipeline import epoch_order, ordered, targets_and_weights
from finetune.features.arrays import Entry
from finetune.features.planner import MEMORY_SHARE


@dataclass(frozen=True, eq=False)
class StoredExamples:
    """One split whose inputs are stored features; see `finetune.datasets.pipeline.Examples`.

    Args:
        views: One entry of the store for each augmented view; epoch e reads number e mod len(views).
        dtypes: Dtype above the cut of each tensor of an entry, whatever it is on disk.
        targets: What the loss compares with, (n,) int32 class indices or (n, classes) float32.
        weights: Weights of the rows in the training loss, (n,) float32; None if all are alike.
    """

    views: tuple[Entry, ...]
    dtypes: tuple[str, ...]
    targets: np.ndarray
    weights: np.ndarray | None = None

    def num_steps(self, batch_size: int) -> int:
        """Returns the number of batches of one epoch; the last one may be smaller."""
        return -(-len(self.targets) // batch_size)


def training_batches(
    examples: StoredExamples,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """Makes the batches that `finetune.datasets.pipeline.training_batches` makes, from features."""
    order = epoch_order(len(examples.targets), batch_size, seed, first_epoch, last_epoch, skip)
    steps = (last_epoch - first_epoch) * examples.num_steps(batch_size) - skip
    return ordered(order.map(_gatherer(examples)), steps)


def evaluation_batches(examples: StoredExamples, *, batch_size: int) -> tf.data.Dataset:
    """Makes the batches of one pass in stored order, from the first view."""
    examples = StoredExamples(examples.views[:1], examples.dtypes, examples.targets)
    if _fits_memory(examples):
        # One slice for all: an iterator of it is made in a tenth of the time of one that gathers.
        with tf.device("CPU:0"):
            arrays = zip(examples.views[0].arrays, examples.dtypes, strict=True)
            held = tuple(tf.cast(array, dtype) for array, dtype in arrays)
            return tf.data.Dataset.from_tensor_slices((held, examples.targets)).batch(batch_size)
    gather = _gatherer(examples)
    rows = tf.data.Dataset.range(len(examples.targets)).batch(batch_size)
    return ordered(rows.map(lambda batch: gather(0, batch)), examples.num_steps(batch_size))


def _fits_memory(examples: StoredExamples) -> bool:
    """Tells whether the features may be held in memory with their dtypes above the cut."""
    needed = sum(
        array.size * tf.as_dtype(dtype).size
        for entry in examples.views
        for array, dtype in zip(entry.arrays, examples.dtypes, strict=True)
    )
    return needed <= psutil.virtual_memory().available * MEMORY_SHARE


def _gatherer(examples: StoredExamples) -> Callable[[Any, tf.Tensor], Any]:
    """Returns the function from (epoch, rows) to (features, targets) or (…, weights)."""
    views, num_rows = examples.views, len(examples.targets)
    shapes = [array.shape[1:] for array in views[0].arrays]
    with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
        answer = targets_and_weights(examples.targets, examples.weights)
        if _fits_memory(examples):
            held = [
                tf.constant(arrays[0] if len(views) == 1 else np.concatenate(arrays))
                for arrays in zip(*(entry.arrays for entry in views), strict=True)
            ]
            read = _from_memory(held, num_rows)
        else:
            read = _from_disk(views)

    def gather(epoch: Any, rows: tf.Tensor) -> Any:
        view = tf.cast(epoch, tf.int64) % len(views)
        features = tuple(
            tf.cast(tf.ensure_shape(tensor, (None, *shape)), dtype)
            for tensor, shape, dtype in zip(read(view, rows), shapes, examples.dtypes, strict=True)
        )
        return features, *answer(rows)

    return gather


def _from_memory(held: Sequence[tf.Tensor], num_rows: int) -> Callable[..., list[tf.Tensor]]:
    def read(view: tf.Tensor, rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(tensor, view * num_rows + rows) for tensor in held]

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

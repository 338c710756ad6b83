"""A linear head on standardised features, folded into the plain head when its phase ends.

Features of a frozen prefix have a mean and a spread that are known, and a linear head trains far
better on features of mean 0 and spread 1 (LeCun et al. 1998, Efficient BackProp, section 4.3). So
the head's weights change their coordinates while the phase lasts: kernel K' = s K and bias
b' = b + m K give the same logits on (x - m) / s as K and b give on x. Gradients change with them,
dL/dK = s dL/dK' + m dL/db', and so do the moments of the optimizer.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from finetune.features.cut import LinearHead
from finetune.freezing.inventory import to_numpy

_NARROW = 1e-6  # a feature whose spread is below this share of the widest counts as constant


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of each feature, (features,) float64; the spread of a constant is 1."""

    mean: np.ndarray
    scale: np.ndarray

    def as_key(self) -> tuple[bytes, bytes]:
        """Returns what is equal for equal statistics."""
        return self.mean.tobytes(), self.scale.tobytes()


def statistics_of(batches: Iterable[np.ndarray]) -> Statistics:
    """Computes the statistics of (batch, features) arrays in one pass (Chan et al. 1979)."""
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for batch in batches:
        rows = batch.astype(np.float64)
        own, delta = rows.mean(axis=0), rows.mean(axis=0) - mean
        total = count + len(rows)
        squares = squares + ((rows - own) ** 2).sum(axis=0) + delta**2 * count * len(rows) / total
        mean = mean + delta * len(rows) / total
        count = total
    spread = np.sqrt(squares / count)
    constant = spread <= _NARROW * spread.max(initial=0.0)
    return Statistics(np.asarray(mean), np.where(constant, 1.0, spread))


class StandardisedHead:
    """Keeps a head in standardised coordinates from construction until `fold`.

    Args:
        head: its first layer is given standardised features meanwhile.
        statistics: of the features.
        optimizer: what updates kernel and bias; its moments change coordinates too.
    """

    def __init__(
        self, head: LinearHead, statistics: Statistics, optimizer: keras.optimizers.Optimizer
    ) -> None:
        self._head, self._optimizer = head, optimizer
        self._mean, self._scale = statistics.mean, statistics.scale
        kernel, bias = self._values()
        self._assign(kernel * self._scale[:, None], bias + self._mean @ kernel)
        self._turn_moments(1 / self._scale, -self._mean / self._scale)
        self._wrap()

    def fold(self) -> None:
        """Gives the head its plain coordinates and its own `call` back; once."""
        del self._head.first.call
        kernel, bias = self._values()
        plain = kernel / self._scale[:, None]
        self._assign(plain, bias - self._mean @ plain)
        self._turn_moments(self._scale, self._mean)

    def _wrap(self) -> None:
        layer = self._head.first
        call = layer.call
        dtype = layer.compute_dtype
        mean: Any = keras.ops.convert_to_tensor(self._mean.astype(np.float32))
        scale: Any = keras.ops.convert_to_tensor(self._scale.astype(np.float32))

        @functools.wraps(call)
        def standardised(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            plain: Any = keras.ops.cast(inputs, "float32")
            return call(keras.ops.cast((plain - mean) / scale, dtype), *args, **kwargs)

        layer.call = standardised

    def _values(self) -> tuple[np.ndarray, np.ndarray]:
        dense = self._head.dense
        return to_numpy(dense.kernel).astype(np.float64), to_numpy(dense.bias).astype(np.float64)

    def _assign(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        self._head.dense.kernel.assign(kernel.astype(np.float32))
        self._head.dense.bias.assign(bias.astype(np.float32))

    def _turn_moments(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Changes first moments as gradients change; bounds second ones (Minkowski) from above."""
        dense = self._head.dense
        kernel_slots, bias_slots = (
            _slots(self._optimizer, each) for each in (dense.kernel, dense.bias)
        )
        for name, slot in kernel_slots.items():
            of_kernel = to_numpy(slot).astype(np.float64)
            of_bias = to_numpy(bias_slots[name]).astype(np.float64)
            if "velocity" in name:
                root = factor[:, None] * np.sqrt(of_kernel)
                turned = (root + np.abs(offset)[:, None] * np.sqrt(of_bias)) ** 2
            else:
                turned = factor[:, None] * of_kernel + offset[:, None] * of_bias
            slot.assign(turned.astype(np.float32))


def _slots(optimizer: keras.optimizers.Optimizer, weight: Any) -> dict[str, Any]:
    """Returns the optimizer's variables for one weight by the name of what they hold."""
    prefix = f"{weight.path.replace('/', '_')}_"
    found = {}
    for variable in optimizer.variables:
        if variable.name.startswith(prefix) and variable.shape == weight.shape:
            found[variable.name.removeprefix(prefix)] = variable
    return found

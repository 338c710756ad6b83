"""Trains a linear head on standardised features; it is folded into the plain head at the end.

The mean and the spread of the features of a frozen prefix are known, and a linear head trains far
better on features of mean 0 and spread 1 (LeCun et al. 1998, Efficient BackProp, section 4.3). The
head's weights therefore change their coordinates while the phase lasts: kernel K' = s K and bias
b' = b + m K give the same logits on (x - m) / s as K and b give on x. Gradients change with them,
dL/dK = s dL/dK' + m dL/db', and so do the moments of the optimizer.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from finetune.errors import ConfigError
from finetune.features.cut import LinearHead
from finetune.freezing.inventory import to_numpy

_NARROW = 1e-6  # a feature whose spread is below this share of the widest counts as constant


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of each feature, (features,) float64; a constant feature has spread 1."""

    mean: np.ndarray
    scale: np.ndarray

    def __eq__(self, other: object) -> bool:
        """Returns whether all values are the same."""
        if not isinstance(other, Statistics):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.scale, other.scale)


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
    constant = spread <= _NARROW * np.maximum(spread.max(initial=0.0), np.abs(mean))
    return Statistics(np.asarray(mean), np.where(constant, 1.0, spread))


class StandardisedHead:
    """Puts a linear head into standardised coordinates and back, once in each phase.

    Steps that were compiled in standardised coordinates stay correct after `fold`, because mean and
    scale are variables that are 0 and 1 then.

    Args:
        head: Linear head whose first layer gets standardised features between `enter` and `fold`.
    """

    def __init__(self, head: LinearHead) -> None:
        self._head = head
        size = head.dense.kernel.shape[0]
        self._dtype = "float64" if head.dense.kernel.dtype == "float64" else "float32"
        zeros, ones = np.zeros(size), np.ones(size)
        self._mean: Any = keras.Variable(zeros, dtype=self._dtype, trainable=False)
        self._scale: Any = keras.Variable(ones, dtype=self._dtype, trainable=False)
        self._statistics = Statistics(zeros, ones)
        self._pairs: list[tuple[str, Any, Any]] = []  # kernel and bias slots of one kind
        self._before: tuple[Statistics, list[np.ndarray], list[np.ndarray]] | None = None

    def enter(
        self,
        statistics: Statistics,
        of_kernel: Mapping[str, Any],
        of_bias: Mapping[str, Any],
        inside: bool = False,
    ) -> None:
        """Changes weights and optimizer moments to the coordinates of `statistics`.

        Args:
            statistics: Statistics of the features.
            of_kernel: Optimizer variables of the kernel, by slot.
            of_bias: Optimizer variables of the bias, by slot.
            inside: Whether weights and moments already have these coordinates, as after `load`.
        """
        self._statistics = statistics
        self._mean.assign(statistics.mean)
        self._scale.assign(statistics.scale)
        self._pairs = [
            (name, slot, of_bias[name]) for name, slot in of_kernel.items() if name in of_bias
        ]
        if not inside:
            kernel, bias = self._values()
            self._assign(kernel * statistics.scale[:, None], bias + statistics.mean @ kernel)
            self._turn(1 / statistics.scale, -statistics.mean / statistics.scale)
        self._wrap()

    def state(self) -> dict[str, np.ndarray]:
        """Returns what a later process needs to continue, apart from the values of the weights."""
        result = {"mean": self._statistics.mean, "scale": self._statistics.scale}
        if self._before is not None:
            statistics, left, arrived = self._before
            result |= {"before/mean": statistics.mean, "before/scale": statistics.scale}
            for name, values in (("left", left), ("arrived", arrived)):
                result |= {f"{name}/{index}": value for index, value in enumerate(values)}
        return result

    @property
    def statistics(self) -> Statistics:
        """Statistics of the last `enter`, possibly in an earlier process."""
        return self._statistics

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned.

        Raises:
            ConfigError: If it is the state of another head.
        """
        size = self._statistics.mean.shape
        if {state["mean"].shape, state["scale"].shape} != {size}:
            raise ConfigError(
                f"the checkpoint must be of a head of {size[0]} features. Received: "
                f"{state['mean'].shape[0]}. Use the backbone and head that the run was started with."
            )
        if "before/mean" in state:
            left, arrived = (
                [state[f"{name}/{i}"] for i in range(sum(k.startswith(name) for k in state))]
                for name in ("left", "arrived")
            )
            self._before = (Statistics(state["before/mean"], state["before/scale"]), left, arrived)
        self._statistics = Statistics(state["mean"], state["scale"])

    def fold(self) -> None:
        """Restores the plain coordinates and the original `call` of the head."""
        del self._head.first.call
        mean, scale = self._statistics.mean, self._statistics.scale
        kernel, bias = self._values()
        plain = kernel / scale[:, None]
        self._assign(plain, bias - mean @ plain)
        self._turn(scale, mean)
        self._mean.assign(np.zeros_like(mean))
        self._scale.assign(np.ones_like(scale))

    def _wrap(self) -> None:
        layer = self._head.first
        call = layer.call
        dtype = layer.compute_dtype

        @functools.wraps(call)
        def standardised(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            plain: Any = keras.ops.cast(inputs, self._dtype)
            standard = (plain - self._mean) / self._scale
            return call(keras.ops.cast(standard, dtype), *args, **kwargs)

        layer.call = standardised

    def _values(self) -> tuple[np.ndarray, np.ndarray]:
        dense = self._head.dense
        return to_numpy(dense.kernel).astype(np.float64), to_numpy(dense.bias).astype(np.float64)

    def _assign(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        self._head.dense.kernel.assign(kernel)
        self._head.dense.bias.assign(bias)

    def _turn(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Changes the moments of the kernel: first moments exactly, second moments as a bound.

        First moments change as gradients do; second moments are bounded from above (Minkowski). If
        the change before is undone, as between two probe phases, the moments are restored instead,
        so that the bound does not widen twice.
        """
        given = [to_numpy(slot) for _, slot, _ in self._pairs]
        if self._before is not None:
            statistics, left, arrived = self._before
            same = len(given) == len(arrived) and all(map(np.array_equal, given, arrived))
            if same and statistics == self._statistics:
                for (_, slot, _), value in zip(self._pairs, left, strict=True):
                    slot.assign(value)
                self._before = (statistics, given, left)
                return
        for name, slot, bias_slot in self._pairs:
            of_kernel = to_numpy(slot).astype(np.float64)
            of_bias = to_numpy(bias_slot).astype(np.float64)
            if "velocity" in name:
                root = factor[:, None] * np.sqrt(of_kernel)
                turned = (root + np.abs(offset)[:, None] * np.sqrt(of_bias)) ** 2
            else:
                turned = factor[:, None] * of_kernel + offset[:, None] * of_bias
            slot.assign(turned)
        self._before = (self._statistics, given, [to_numpy(slot) for _, slot, _ in self._pairs])

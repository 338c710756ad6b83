"""A freeze policy, a dataset and a metric, which the entry points in pyproject.toml name."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import finetune


@dataclass(frozen=True)
class Kernels(finetune.Policy):
    """Train the head and the kernels of the last `stages` backbone stages; freeze the rest.

    Args:
        stages: How many backbone stages are trained, counted from the head; at least 1.
    """

    name: ClassVar[str] = "kernels"
    stages: int = 1

    def problems(self, where):
        """Checks the keys."""
        if self.stages >= 1:
            return []
        return [f"{where}.stages must be at least 1. Received: {self.stages}. Set it to 1."]

    def select(self, weights, stage_names, where):
        """Returns the paths of the weights that train."""
        last = stage_names[-1 - self.stages :]
        return finetune.with_head(
            weights, lambda weight: weight.stage in last and weight.path.endswith("kernel")
        )


def moons(settings, seed):
    """Draws images of a crescent that opens to the left or to the right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 200)
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    center_x, center_y = random.uniform(12, 20, (2, 200, 1, 1))
    shift = np.where(labels == 0, -5, 5)[:, None, None]
    full, cut = ((x - center_x - dx) ** 2 + (y - center_y) ** 2 < 100 for dx in (0, shift))
    images = np.where(full & ~cut, 255, 0).astype(np.uint8)
    return finetune.Splits(train=(images, labels), classes=["right", "left"])


@finetune.Metric
def balanced_accuracy(labels, probabilities):
    """Averages the recall over the classes."""
    right = probabilities.argmax(1) == labels
    return np.mean([right[labels == label].mean() for label in np.unique(labels)])

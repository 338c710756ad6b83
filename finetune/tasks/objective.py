"""What a run is trained for: one label of several, several at once, or mixtures of labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

ONE, MIXED, MULTI_LABEL = "one label", "mixed labels", "several labels"


@dataclass(frozen=True)
class Objective:
    """Which loss and metrics a model is compiled with, and what they compare its outputs to.

    Args:
        kind: ``one label`` an example (softmax, cross-entropy), ``mixed labels`` (the same, with
            targets that are shares of classes, as MixUp makes them) or ``several labels`` (a
            sigmoid each, binary cross-entropy).
        num_classes: outputs of the model.
        from_logits: whether the outputs are logits, and no probabilities yet.
    """

    kind: str
    num_classes: int
    from_logits: bool = True

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Returns what the loss takes: (n,) int32 class indices, or (n, classes) float32.

        Args:
            labels: (n,) class indices, or (n, classes) of 0 and 1 for several labels.
        """
        if self.kind == MIXED:
            return np.eye(self.num_classes, dtype=np.float32)[labels]
        return labels.astype(np.int32 if self.kind == ONE else np.float32)

    def loss(self) -> keras.losses.Loss:
        """Returns a new loss."""
        classes = {
            ONE: keras.losses.SparseCategoricalCrossentropy,
            MIXED: keras.losses.CategoricalCrossentropy,
            MULTI_LABEL: keras.losses.BinaryCrossentropy,
        }
        return classes[self.kind](from_logits=self.from_logits)

    def metrics(self) -> Sequence[keras.metrics.Metric]:
        """Returns new metrics: the accuracy; of several labels, the share of right decisions."""
        if self.kind == ONE:
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if self.kind == MIXED:
            return [keras.metrics.CategoricalAccuracy(name="accuracy")]
        threshold = 0.0 if self.from_logits else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Returns the weight of each example that makes all classes that occur count alike.

    As scikit-learn's ``class_weight="balanced"``: n / (classes × examples of the class), after
    King & Zeng 2001, "Logistic Regression in Rare Events Data".

    Args:
        labels: (n,) class indices.

    Returns:
        (n,) float32; their mean is 1.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(classes) * counts)).astype(np.float32)[inverse]

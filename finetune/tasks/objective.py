"""The training objective: one label per example, any number of labels, or mixtures of labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

ONE, MIXED, MULTI_LABEL = "one label", "mixed labels", "several labels"


@dataclass(frozen=True)
class Objective:
    """The loss and metrics of a model, and the targets that they compare outputs with.

    Args:
        kind: ``one label`` per example (softmax, cross-entropy), ``mixed labels`` (the same, with
            targets that are shares of classes, as MixUp makes them) or ``several labels`` (one
            sigmoid per class, binary cross-entropy).
        num_classes: Number of outputs of the model.
        from_logits: Whether the outputs are logits instead of probabilities.
    """

    kind: str
    num_classes: int
    from_logits: bool = True

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Returns the targets of the loss: (n,) int32 class indices, or (n, classes) float32.

        Args:
            labels: (n,) class indices, or (n, classes) of 0 and 1 for multi-label data.
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
        """Returns new metrics: accuracy, for multi-label data the share of right decisions."""
        if self.kind == ONE:
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if self.kind == MIXED:
            return [keras.metrics.CategoricalAccuracy(name="accuracy")]
        threshold = 0.0 if self.from_logits else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Returns the weights of examples that balance all classes that occur.

    As scikit-learn's ``class_weight="balanced"``: n / (classes × examples of the class), after King
    & Zeng 2001, "Logistic Regression in Rare Events Data".

    Args:
        labels: (n,) class indices.

    Returns:
        (n,) float32; their mean is 1.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(classes) * counts)).astype(np.float32)[inverse]

"""The metrics of this program by name, of labels and probabilities; see `finetune.config.metric`.

The names are listed in `finetune.config.plugins`. Importing this module loads no TensorFlow.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from finetune.config.metric import Metric
from finetune.evaluation.calibration import calibration_error

_TINY = np.finfo(np.float64).tiny
_single = partial(Metric, task="single_label")
_multi = partial(Metric, task="multi_label")


def _minimised(compute: Callable[[Any, Any], float]) -> Metric:
    return Metric(compute, "min")


def _predicted(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns predictions in the form of the labels: the likeliest class, or decisions at 0.5."""
    if labels.ndim == 1:
        return probabilities.argmax(1)
    return (probabilities > 0.5).astype(np.uint8)


def _f1(labels: np.ndarray, probabilities: np.ndarray, average: str, occurring: Any) -> float:
    from sklearn.metrics import f1_score

    options: Any = {"average": average, "labels": occurring, "zero_division": 0.0}
    return float(f1_score(labels, _predicted(labels, probabilities), **options))


@_minimised
def loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean cross-entropy in nats."""
    if labels.ndim == 1:
        right = probabilities[np.arange(len(labels)), labels]
    else:
        right = np.where(labels, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, _TINY)).mean())


@Metric
def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of correct predictions; with several labels, of correct decisions."""
    return float((_predicted(labels, probabilities) == labels).mean())


@Metric
def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The F1 score averaged over the classes that occur."""
    classes = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(0))
    return _f1(labels, probabilities, "macro", classes) if len(classes) else 0.0


@_multi
def micro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The F1 score of all decisions together."""
    return _f1(labels, probabilities, "micro", None)


@Metric
def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The area under the ROC curve, one class against the rest, averaged over the classes.

    Classes that every example or no example has are left out; NaN where that leaves none.
    """
    from sklearn.metrics import roc_auc_score

    rows = labels if labels.ndim == 2 else np.eye(probabilities.shape[1], dtype=np.uint8)[labels]
    both = rows.any(0) & ~rows.all(0)
    if not both.any():
        return float("nan")
    return float(roc_auc_score(rows[:, both], probabilities[:, both], average="macro"))


@_single
def top_5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of examples whose class is among the five likeliest."""
    from sklearn.metrics import top_k_accuracy_score

    number = probabilities.shape[1]
    if number <= 5:
        return 1.0
    options: Any = {"k": 5, "labels": range(number)}
    return float(top_k_accuracy_score(labels, probabilities, **options))


@_multi
def mean_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The average precision averaged over the classes that occur; NaN where none does."""
    from sklearn.metrics import average_precision_score

    occurs = labels.any(0)
    if not occurs.any():
        return float("nan")
    return float(average_precision_score(labels[:, occurs], probabilities[:, occurs]))


@partial(Metric, direction="min", task="single_label")
def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean gap between confidence and accuracy (Guo et al. 2017, section 2); 0 is calibrated."""
    return calibration_error(probabilities.max(1), probabilities.argmax(1) == labels)

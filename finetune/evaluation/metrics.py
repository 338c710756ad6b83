"""How good a trained model is on the test split, from its outputs, once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.record.schema import EvaluationDetails, Interval, Mistake
from finetune.tasks.objective import MULTI_LABEL, Objective

TOP_5_CLASSES = 20  # top-5 accuracy is given from so many classes on: of fewer it says little
_BINS = 15  # of the calibration error, as in Guo et al. 2017
NUM_MISTAKES = 16
NUM_CONFUSIONS = 10_000
_Z = 1.959963984540054  # of the standard normal distribution, 97.5 % lie below it
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Report:
    """How good a model is on a split.

    Args:
        metrics: of the whole split.
        per_class: one entry a class: name, precision, recall, f1, support.
        details: what pictures show; its mistakes are named by the row alone.
        mistaken: rows of these mistakes in the split.
        interval: of the accuracy; None with several labels, whose decisions are not independent.
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    details: EvaluationDetails
    mistaken: list[int]
    interval: Interval | None = None


def report(
    outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str], objective: Objective
) -> Report:
    """Compares the outputs of a model with the labels.

    Args:
        outputs: (n, classes) logits or probabilities, as `objective` says.
        labels: (n,) class indices, or (n, classes) of 0 and 1 for several labels.
        classes: label names.
        objective: what the model was trained for.

    Returns:
        loss (nats), accuracy, macro_f1 and expected_calibration_error (Guo et al. 2017, 15 bins of
        the largest probability), and top_5_accuracy from 20 classes on. Of several labels: the
        mean loss and accuracy of the decisions at 0.5, micro_f1, macro_f1 and
        mean_average_precision (over the classes that occur).
    """
    outputs = np.asarray(outputs, np.float64)
    if objective.kind == MULTI_LABEL:
        return _several_labels(outputs, labels, classes, objective.from_logits)
    return _one_label(outputs, labels, classes, objective.from_logits)


def _one_label(
    outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str], from_logits: bool
) -> Report:
    from sklearn.metrics import top_k_accuracy_score

    logs = _log_softmax(outputs) if from_logits else np.log(np.maximum(outputs, _TINY))
    predicted = logs.argmax(1)
    confidences = np.exp(logs.max(1))
    right = predicted == labels
    per_class = _per_class(labels, predicted, classes)
    metrics = {
        "loss": float(-logs[np.arange(len(labels)), labels].mean()),
        "accuracy": float(right.mean()),
        "macro_f1": _mean_f1(per_class),
        "expected_calibration_error": calibration_error(confidences, right),
    }
    if len(classes) >= TOP_5_CLASSES:
        indices = range(len(classes))
        metrics["top_5_accuracy"] = float(top_k_accuracy_score(labels, logs, k=5, labels=indices))
    worst = _most_confident(confidences, ~right)
    details = EvaluationDetails(
        confusion=_confusion(labels, predicted, len(classes)),
        reliability=reliability(confidences, right),
        mistakes=[
            _mistake(row, classes[int(labels[row])], classes[int(predicted[row])], confidences[row])
            for row in worst
        ],
    )
    return Report(metrics, per_class, details, worst, wilson(int(right.sum()), len(right)))


def wilson(right: int, examples: int) -> Interval:
    """Returns the 95 % Wilson score interval of a share.

    It holds its level for few examples and for shares near 0 and 1, where p ± 1.96 σ does not.
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended by Brown, Cai & DasGupta, "Interval estimation for a binomial proportion",
    Statistical Science 16 (2001), section 4.

    Args:
        right: number of examples that were predicted right.
        examples: their number in all, at least 1.
    """
    share, square = right / examples, _Z * _Z / examples
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / examples + square / (4 * examples)) / (1 + square)
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0), examples)


def _several_labels(
    outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str], from_logits: bool
) -> Report:
    from sklearn.metrics import average_precision_score

    # log(1 + exp(x)) - x·y is the cross-entropy of a logit x; a probability is turned into one.
    logits = outputs if from_logits else _logit(outputs)
    predicted = (logits > 0).astype(np.uint8)
    per_class = _per_class(labels, predicted, classes)
    occurs = labels.any(0)
    metrics = {
        "loss": float((np.logaddexp(0, logits) - logits * labels).mean()),
        "accuracy": float((predicted == labels).mean()),
        "micro_f1": _micro_f1(labels, predicted),
        "macro_f1": _mean_f1(per_class),
    }
    if occurs.any():
        scores = average_precision_score(labels[:, occurs], logits[:, occurs], average="macro")
        metrics["mean_average_precision"] = float(scores)
    probabilities = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    certain = np.maximum(probabilities, 1 - probabilities)
    wrong = predicted != labels
    columns = np.where(wrong, certain, 0).argmax(1)  # of an example, the surest of its mistakes
    confidences = certain[np.arange(len(labels)), columns]
    worst = _most_confident(confidences, wrong.any(1))
    details = EvaluationDetails(
        reliability=reliability(probabilities.ravel(), labels.ravel()),
        mistakes=[
            _mistake(
                row,
                ", ".join(classes[each] for each in np.flatnonzero(labels[row]).tolist()) or "none",
                f"{'' if predicted[row, column] else 'not '}{classes[column]}",
                confidences[row],
            )
            for row, column in zip(worst, columns[worst].tolist(), strict=True)
        ],
    )
    return Report(metrics, per_class, details, worst)


def _most_confident(confidences: np.ndarray, wrong: np.ndarray) -> list[int]:
    rows = np.flatnonzero(wrong)
    return rows[np.argsort(-confidences[rows], kind="stable")][:NUM_MISTAKES].tolist()


def _mistake(row: int, label: str, predicted: str, probability: float) -> Mistake:
    return Mistake(f"row {row + 1}", label, predicted, float(probability))


def _confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> list[list[int]]:
    """Returns [class, predicted class, number] of what occurs, most frequent first."""
    pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:NUM_CONFUSIONS]
    return [[*divmod(int(pairs[i]), num_classes), int(counts[i])] for i in order]


def _per_class(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    indices = list(range(len(classes)))
    given: Any = {"labels": indices, "zero_division": 0.0}
    columns: Any = precision_recall_fscore_support(labels, predicted, **given)
    keys = ("precision", "recall", "f1")
    return [
        {"name": name, **dict(zip(keys, map(float, row), strict=True)), "support": int(support)}
        for name, *row, support in zip(classes, *columns, strict=True)
    ]


def _micro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float(2 * (labels * predicted).sum() / max(labels.sum() + predicted.sum(), 1))


def _mean_f1(per_class: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([each["f1"] for each in per_class if each["support"]] or [0.0]))


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error (Guo et al. 2017, section 2): 0 is calibrated.

    Args:
        confidences: (n,) probability of the predicted class, in [0, 1].
        right: (n,) whether it was the class.
    """
    gaps = np.bincount(_bins(confidences), weights=right - confidences, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def reliability(confidences: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Returns what a reliability diagram shows (Guo et al. 2017, section 2).

    Args:
        confidences: (n,) probabilities in [0, 1].
        right: (n,) whether what they were given to was so.

    Returns:
        One entry for each bin of the calibration error that holds any, from low to high: the mean
        confidence, the accuracy, and their number, ``count``.
    """
    bins = _bins(confidences)
    counts = np.bincount(bins, minlength=_BINS)
    sums = [np.bincount(bins, weights=each, minlength=_BINS) for each in (confidences, right)]
    return [
        {
            "confidence": float(sums[0][i] / counts[i]),
            "accuracy": float(sums[1][i] / counts[i]),
            "count": int(counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def _bins(confidences: np.ndarray) -> np.ndarray:
    return np.minimum((confidences * _BINS).astype(int), _BINS - 1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _logit(probabilities: np.ndarray) -> np.ndarray:
    kept = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.log(kept) - np.log1p(-kept)

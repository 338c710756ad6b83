"""Metrics of a trained model on one split, computed once from its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.evaluation import built_in
from finetune.evaluation.calibration import calibration_error, reliability
from finetune.record.schema import EvaluationDetails, Interval, Mistake
from finetune.tasks.objective import MULTI_LABEL, Objective

TOP_5_CLASSES = 20  # fewest classes for which top-5 accuracy is informative
NUM_MISTAKES = 16
NUM_CONFUSIONS = 10_000
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Report:
    """Metrics of a model on a split.

    Args:
        metrics: Metrics of the whole split by name.
        per_class: One entry per class with name, precision, recall, f1 and support.
        details: Data of the pictures. The row number is the only source of its mistakes.
        mistaken: Rows of these mistakes in the split.
        interval: Confidence interval of the accuracy; None with multi-label data, because the
            decisions on one example are not independent.
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
        labels: (n,) class indices, or (n, classes) multi-hot rows.
        classes: Label names.
        objective: Objective that the model was trained for.

    Returns:
        With one label per example: loss (nats), accuracy, macro_f1, expected_calibration_error
        (Guo et al. 2017, 15 bins of the largest probability) and, from 20 classes on,
        top_5_accuracy. With multi-label data: loss and accuracy averaged over all decisions at 0.5,
        micro_f1, macro_f1 and mean_average_precision. Macro averages run over the classes that
        occur in the labels.
    """
    outputs = np.asarray(outputs, np.float64)
    if objective.kind == MULTI_LABEL:
        return _multi_label(outputs, labels, classes, objective.from_logits)
    return _one_label(outputs, labels, classes, objective.from_logits)


def _one_label(
    outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str], from_logits: bool
) -> Report:
    from scipy.special import log_softmax

    logs = log_softmax(outputs, axis=1) if from_logits else np.log(np.maximum(outputs, _TINY))
    predicted = logs.argmax(1)
    confidences = np.exp(logs.max(1))
    right = predicted == labels
    per_class = _per_class(labels, predicted, classes)
    metrics = {
        "loss": float(-logs[np.arange(len(labels)), labels].mean()),
        "accuracy": float(right.mean()),
        "macro_f1": _macro_f1(per_class),
        "expected_calibration_error": calibration_error(confidences, right),
    }
    if len(classes) >= TOP_5_CLASSES:
        metrics["top_5_accuracy"] = built_in.top_5_accuracy(labels, logs)
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
    """Returns the 95 % Wilson score interval of a proportion.

    It keeps its coverage for few examples and for proportions near 0 and 1, where p ± 1.96 σ does
    not: Brown, Cai & DasGupta, "Interval estimation for a binomial proportion", Statistical
    Science 16 (2001), section 4.

    Args:
        right: Number of examples that were predicted correctly.
        examples: Number of all examples, at least 1.
    """
    from scipy.stats import binomtest

    bounds = binomtest(right, examples).proportion_ci(0.95, method="wilson")
    return Interval(float(bounds.low), float(bounds.high), examples)


def _multi_label(
    outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str], from_logits: bool
) -> Report:
    from scipy.special import expit, logit

    # The cross-entropy of a logit x and a target y is log(1 + exp(x)) - x·y.
    logits = outputs if from_logits else logit(np.clip(outputs, 1e-12, 1 - 1e-12))
    predicted = (logits > 0).astype(np.uint8)
    probabilities = expit(logits)
    per_class = _per_class(labels, predicted, classes)
    metrics = {
        "loss": float((np.logaddexp(0, logits) - logits * labels).mean()),
        "accuracy": float((predicted == labels).mean()),
        "micro_f1": built_in.micro_f1(labels, probabilities),
        "macro_f1": _macro_f1(per_class),
    }
    if labels.any():
        metrics["mean_average_precision"] = built_in.mean_average_precision(labels, logits)
    certain = np.maximum(probabilities, 1 - probabilities)
    wrong = predicted != labels
    columns = np.where(wrong, certain, 0).argmax(1)  # the most confident mistake of each example
    confidences = certain[np.arange(len(labels)), columns]
    worst = _most_confident(confidences, wrong.any(1))
    details = EvaluationDetails(
        reliability=reliability(probabilities.ravel(), labels.ravel()),
        mistakes=[
            _mistake(
                row,
                ", ".join(classes[i] for i in np.flatnonzero(labels[row]).tolist()) or "none",
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
    """Returns the non-zero cells as [class, predicted class, count], the most frequent first."""
    pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:NUM_CONFUSIONS]
    return [[*divmod(int(pairs[i]), num_classes), int(counts[i])] for i in order]


def _per_class(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    indices = list(range(len(classes)))
    options: Any = {"labels": indices, "zero_division": 0.0}
    columns: Any = precision_recall_fscore_support(labels, predicted, **options)
    keys = ("precision", "recall", "f1")
    return [
        {"name": name, **dict(zip(keys, map(float, row), strict=True)), "support": int(support)}
        for name, *row, support in zip(classes, *columns, strict=True)
    ]


def _macro_f1(per_class: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([entry["f1"] for entry in per_class if entry["support"]] or [0.0]))

"""The exact linear probe: multinomial logistic regression on stored features, by scikit-learn."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune.features.feeding import Feed
from finetune.training.standardise import Statistics, statistics_of

log = logging.getLogger(__name__)

STRENGTHS = tuple(10.0**power for power in range(-4, 5))  # scikit-learn's C, weakest L2 last
_MAX_ITERATIONS = 1000
_ABSENT = 20.0  # how far below the least bias that of a class without training samples is


@dataclass(frozen=True)
class ExactHead:
    """Kernel (features, classes) and bias (classes,) for plain features, and how they were found.

    Args:
        kernel: float64.
        bias: float64.
        strength: the chosen C, the inverse of the L2 strength.
        iterations: of L-BFGS for the chosen one.
        validation_loss: mean cross-entropy on the validation split, in nats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    iterations: int
    validation_loss: float


def solve(feed: Feed) -> ExactHead:
    """Fits the exact head to the stored features of a feed, all views, and puts it in place."""
    head, features = feed.head, feed.head_features
    assert head is not None and features is not None  # noqa: S101 - the feature service sees to it
    train, validation = (
        np.concatenate([entry.arrays[0] for entry in feed.stored[split]]).astype(np.float32)
        for split in ("train", "validation")
    )
    exact = fit_exact_head(
        train,
        np.tile(feed.targets["train"], len(feed.stored["train"])),
        validation,
        feed.targets["validation"],
        weights=None if feed.weights is None else np.tile(feed.weights, len(feed.stored["train"])),
        num_classes=head.dense.units,
        statistics=statistics_of(features()),
    )
    for weight, value in zip(head.weights, (exact.kernel, exact.bias), strict=True):
        weight.assign(value)
    return exact


def fit_exact_head(
    features: np.ndarray,
    labels: np.ndarray,
    validation_features: np.ndarray,
    validation_labels: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    num_classes: int,
    statistics: Statistics,
) -> ExactHead:
    """Fits one regression a strength, each from the one before, and keeps the best on validation.

    Args:
        features: (n, features) of the training split.
        labels: (n,) class indices; at least two classes occur.
        validation_features: (m, features).
        validation_labels: (m,).
        weights: (n,) of the rows in the fit; None: all alike.
        num_classes: columns of the result; classes that do not occur get a bias that rules them out.
        statistics: of the training features; the fit is on standardised ones, the result is not.
    """
    train = (features - statistics.mean) / statistics.scale
    held_out = (validation_features - statistics.mean) / statistics.scale
    best: ExactHead | None = None
    for strength, kernel, bias, iterations in _path(train, labels, weights, num_classes):
        loss = _cross_entropy(held_out @ kernel + bias, validation_labels)
        log.info("lbfgs C %g: %d iterations, validation loss %.5f", strength, iterations, loss)
        if best is None or loss < best.validation_loss:
            plain = kernel / statistics.scale[:, None]
            shifted = bias - statistics.mean @ plain
            best = ExactHead(plain, shifted, strength, iterations, loss)
    assert best is not None  # noqa: S101 - STRENGTHS is not empty
    return best


def _path(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, num_classes: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray, int]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # The iteration limit: the strengths before it are converged, validation decides.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, labels, sample_weight=weights)
        kernel, bias = model.coef_.T, model.intercept_
        if len(model.classes_) == 2:  # one row for two classes: the logit of the second
            kernel, bias = np.hstack([0 * kernel, kernel]), np.append(0.0, bias)
        full_kernel = np.zeros((features.shape[1], num_classes))
        full_bias = np.full(num_classes, np.min(bias) - _ABSENT)
        full_kernel[:, model.classes_] = kernel
        full_bias[model.classes_] = bias
        yield strength, full_kernel, full_bias, int(np.max(model.n_iter_))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_sum - shifted[np.arange(len(labels)), labels]))

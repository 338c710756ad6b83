"""Calibration of predicted probabilities (Guo et al. 2017, section 2)."""

import numpy as np

_BINS = 15  # as in Guo et al. 2017


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error (Guo et al. 2017, section 2); 0 is perfect calibration.

    Args:
        confidences: (n,) probabilities of the predicted classes, in [0, 1].
        right: (n,) booleans; True where the predicted class is the label.
    """
    gaps = np.bincount(_bins(confidences), weights=right - confidences, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def reliability(confidences: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Returns the points of a reliability diagram (Guo et al. 2017, section 2).

    Args:
        confidences: (n,) predicted probabilities in [0, 1].
        right: (n,) booleans; True where the prediction is correct.

    Returns:
        One entry per non-empty bin of the calibration error, from low to high: the mean
        ``confidence``, the ``accuracy`` and the ``count`` of its predictions.
    """
    bins = _bins(confidences)
    counts, confidence, accuracy = (
        np.bincount(bins, weights=weights, minlength=_BINS)
        for weights in (None, confidences, right)
    )
    return [
        {
            "confidence": float(confidence[i] / counts[i]),
            "accuracy": float(accuracy[i] / counts[i]),
            "count": int(counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def _bins(confidences: np.ndarray) -> np.ndarray:
    return np.minimum((confidences * _BINS).astype(int), _BINS - 1)

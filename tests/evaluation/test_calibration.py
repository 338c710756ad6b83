"""Calibration error and reliability diagram, checked against arithmetic done by hand."""

import numpy as np
import pytest

from finetune.evaluation.calibration import calibration_error, reliability


def test_reliability_by_hand():
    found = reliability(np.array([0.9, 0.92, 0.01]), np.array([True, False, False]))
    assert [point["count"] for point in found] == [1, 2]
    assert found[1]["confidence"] == pytest.approx(0.91) and found[1]["accuracy"] == 0.5


def test_calibration_error_by_hand():
    # Two bins: 0.9 and 0.92 are both in the fourteenth of fifteen, one of them right.
    assert calibration_error(np.array([0.9, 0.92]), np.array([True, False])) == pytest.approx(0.41)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0

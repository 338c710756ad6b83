"""Objectives and the report of the test split, checked against arithmetic done by hand."""

import numpy as np
import pytest

from finetune.evaluation.metrics import report, wilson
from finetune.tasks.objective import MIXED, MULTI_LABEL, ONE, Objective, balanced_weights

NAMES = ["a", "b", "c"]


def test_one_label_by_hand():
    # Each row holds 1/2, 1/4 and 1/4; rows 0 and 1 are right, row 2 is an a that is predicted as c.
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    labels = np.array([0, 1, 0])
    for outputs, objective in (
        (np.log(probabilities) + 3, Objective(ONE, 3)),
        (probabilities, Objective(ONE, 3, from_logits=False)),
        (np.log(probabilities), Objective(MIXED, 3)),
    ):
        found = report(outputs, labels, NAMES, objective)
        assert found.metrics["accuracy"] == pytest.approx(2 / 3)
        assert found.metrics["loss"] == pytest.approx((2 * np.log(2) + np.log(4)) / 3)
        # a: precision 1, recall 1/2, F1 2/3; b: F1 1; c does not occur and is left out.
        assert found.metrics["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
        assert found.metrics["expected_calibration_error"] == pytest.approx(2 / 3 - 1 / 2)
        assert "top_5_accuracy" not in found.metrics
        assert found.per_class[0] == {
            "name": "a", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2,
        }  # fmt: skip
        assert [entry["support"] for entry in found.per_class] == [2, 1, 0]
        assert found.details.confusion == [[0, 0, 1], [0, 2, 1], [1, 1, 1]]
        (bin_,) = found.details.reliability
        assert bin_ == {"confidence": 0.5, "accuracy": pytest.approx(2 / 3), "count": 3}
        assert found.mistaken == [2]
        (mistake,) = found.details.mistakes
        assert (mistake.label, mistake.predicted, mistake.probability) == ("a", "c", 0.5)


def test_top_5_accuracy_is_reported_from_twenty_classes_on():
    logits = np.tile(np.arange(20.0)[::-1], (4, 1))  # class 0 first, then 1, …
    found = report(logits, np.array([0, 4, 5, 19]), [str(n) for n in range(20)], Objective(ONE, 20))
    assert found.metrics["top_5_accuracy"] == 0.5
    assert found.metrics["accuracy"] == 0.25


def test_multi_label_by_hand():
    labels = np.array([[1, 1, 0], [0, 1, 0]], np.uint8)
    logits = np.array([[2.0, -1.0, -2.0], [1.0, 3.0, -4.0]])
    whole = report(logits, labels, NAMES, Objective(MULTI_LABEL, 3))
    found = whole.metrics
    assert found["accuracy"] == pytest.approx(4 / 6)  # b of row 0 is missed, a of row 1 is wrong
    right = np.array([2.0, -1.0, 2.0, -1.0, 3.0, 4.0])  # logits of the correct decisions
    assert found["loss"] == pytest.approx(np.log1p(np.exp(-right)).mean())
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)  # a and b; c does not occur
    assert found["mean_average_precision"] == pytest.approx(1.0)  # both rank their examples first
    probabilities = 1 / (1 + np.exp(-logits))
    other = report(
        probabilities, labels, NAMES, Objective(MULTI_LABEL, 3, from_logits=False)
    ).metrics
    assert other == pytest.approx(found)
    # Both mistakes have a logit of ±1; a row without a wrong decision is not listed.
    assert [(m.label, m.predicted) for m in whole.details.mistakes] == [
        ("a, b", "not b"),
        ("b", "a"),
    ]
    assert [m.probability for m in whole.details.mistakes] == pytest.approx(
        [1 / (1 + np.exp(-1))] * 2
    )
    assert sum(point["count"] for point in whole.details.reliability) == 6
    assert whole.details.confusion == []


def test_the_sixteen_most_confident_mistakes_come_first():
    logits = np.zeros((40, 2))
    logits[:, 1] = np.arange(40) / 10  # all rows but row 0 predict b, with growing confidence
    found = report(logits, np.zeros(40, int), ["a", "b"], Objective(ONE, 2))
    assert found.mistaken == list(range(39, 23, -1))
    assert found.details.mistakes[0].probability == pytest.approx(1 / (1 + np.exp(-3.9)))
    assert found.details.confusion == [[0, 1, 39], [0, 0, 1]]


@pytest.mark.parametrize("kind", [ONE, MIXED, MULTI_LABEL])
@pytest.mark.parametrize("from_logits", [True, False])
def test_report_agrees_with_the_loss_and_metric_that_are_trained(kind, from_logits):
    random = np.random.default_rng(0)
    outputs = random.normal(size=(40, 3)).astype("float32")
    labels = random.integers(0, 3, 40)
    if kind == MULTI_LABEL:
        labels = random.integers(0, 2, (40, 3)).astype("uint8")
    if not from_logits:
        odds = np.exp(outputs)
        outputs = odds / (1 + odds) if kind == MULTI_LABEL else odds / odds.sum(1, keepdims=True)
    objective = Objective(kind, 3, from_logits)
    targets, (metric,) = objective.targets(labels), objective.metrics()
    metric.update_state(targets, outputs)
    found = report(outputs, labels, NAMES, objective).metrics
    assert found["accuracy"] == pytest.approx(float(metric.result()))
    assert found["loss"] == pytest.approx(float(objective.loss()(targets, outputs)), rel=1e-5)


def test_balanced_weights_make_classes_count_alike():
    labels = np.array([0, 0, 0, 2])
    weights = balanced_weights(labels)
    np.testing.assert_allclose(weights, [4 / 6] * 3 + [4 / 2])
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("right", "examples", "low", "high"),
    [
        (10, 20, 0.2993, 0.7007),  # Brown, Cai & DasGupta 2001 and R's prop.test(correct=FALSE)
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (791, 797, 0.9837, 0.9965),
    ],
)
def test_the_accuracy_has_a_wilson_interval(right, examples, low, high):
    found = wilson(right, examples)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert (found.examples, found.confidence, found.method) == (examples, 0.95, "Wilson score")


def test_multi_label_accuracy_has_no_interval():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    assert report(np.zeros((2, 2)), labels, "ab", Objective(MULTI_LABEL, 2)).interval is None
    single = report(np.eye(2), np.array([0, 1]), "ab", Objective(ONE, 2))
    assert single.interval == wilson(2, 2)

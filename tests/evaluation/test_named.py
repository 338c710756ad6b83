"""Every built-in metric against the report of a run and against scikit-learn; metrics by name."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from finetune.config import plugins
from finetune.config.metric import Metric
from finetune.errors import ConfigError
from finetune.evaluation.metrics import report
from finetune.evaluation.named import measured, metric, probabilities_of, value
from finetune.tasks.objective import MIXED, MULTI_LABEL, ONE, Objective


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})


def split(kind, from_logits, classes=25):
    random = np.random.default_rng(0)
    outputs = random.normal(size=(60, classes))
    labels = random.integers(0, classes, 60)
    if kind == MULTI_LABEL:
        labels = random.integers(0, 2, (60, classes)).astype("uint8")
    objective = Objective(kind, classes)
    if not from_logits:
        outputs = probabilities_of(outputs, objective)
        objective = Objective(kind, classes, from_logits=False)
    return outputs, labels, objective


@pytest.mark.parametrize("kind", [ONE, MIXED, MULTI_LABEL])
@pytest.mark.parametrize("from_logits", [True, False])
def test_metrics_by_name_equal_those_of_the_report(kind, from_logits):
    outputs, labels, objective = split(kind, from_logits)
    expected = report(outputs, labels, [str(i) for i in range(25)], objective).metrics
    found = measured(expected, "metrics", outputs, labels, objective)
    assert len(found) == 5
    assert found == pytest.approx(expected)


def test_auroc_leaves_classes_out_that_do_not_occur():
    outputs, labels, objective = split(ONE, True, classes=4)
    labels = np.minimum(labels, 2)  # class 3 does not occur
    (found,) = measured(["auroc"], "metrics", outputs, labels, objective).values()
    probabilities = probabilities_of(outputs, objective)
    assert found == pytest.approx(
        np.mean([roc_auc_score(labels == i, probabilities[:, i]) for i in range(3)])
    )
    only = metric("auroc", "metrics", objective)(np.zeros(60, int), probabilities)
    assert np.isnan(only)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("loss", "min"), ("macro_f1", "max"), ("expected_calibration_error", "min")],
)
def test_direction_of_built_in_metrics(name, direction):
    found = metric(name, "metrics", Objective(ONE, 3))
    assert found.direction == direction


def test_metrics_of_another_task_are_refused():
    with pytest.raises(ConfigError) as raised:
        metric("micro_f1", "monitor", Objective(ONE, 3))
    assert str(raised.value) == (
        "monitor must be a metric for single-label data. Received: micro_f1, which is for "
        "multi-label data. Use one of loss, accuracy, macro_f1, auroc, top_5_accuracy, "
        "expected_calibration_error."
    )
    with pytest.raises(ConfigError, match=r"monitor must be a metric\. Received: macro_f2\."):
        metric("macro_f2", "monitor", Objective(ONE, 3))


def test_a_metric_that_fails_is_named_before_training():
    def failing(labels, probabilities):
        raise ValueError("no such thing")

    plugins.register("metrics", "failing", Metric(failing))
    with pytest.raises(ConfigError) as raised:
        metric("failing", "metrics", Objective(ONE, 3))
    line = failing.__code__.co_firstlineno + 1
    assert str(raised.value) == (
        f"metrics must be a metric that works. Received: failing of {__name__}, which raised "
        f"ValueError: no such thing (line {line} of test_named.py). Correct what is registered."
    )
    plugins.register("metrics", "listed", Metric(lambda labels, probabilities: [1.0]))
    with pytest.raises(ConfigError, match="metrics must be a metric that returns a number.*list"):
        metric("listed", "metrics", Objective(ONE, 3))


def test_a_metric_is_given_labels_and_probabilities():
    def total(labels, probabilities):
        assert probabilities.dtype == np.float64
        return probabilities[np.arange(len(labels)), labels].sum()

    plugins.register("metrics", "total", Metric(total))
    outputs = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    found = measured(["total"], "metrics", outputs, np.array([0, 2]), Objective(ONE, 3))
    assert found == {"total": pytest.approx(1.2)}


@pytest.mark.parametrize("changed", [0, 1])
def test_a_metric_cannot_change_what_it_is_given(changed):
    def changing(*arrays):
        arrays[changed][:] = 0
        return 1.0

    plugins.register("metrics", "changing", Metric(changing))
    labels, outputs = np.array([0, 2]), np.full((2, 3), 0.25)
    with pytest.raises(ConfigError, match=r"changing of .* raised ValueError: assignment dest"):
        metric("changing", "metrics", Objective(ONE, 3))
    with pytest.raises(ConfigError, match="read-only"):
        value("changing", "metrics", labels, outputs)
    assert labels.flags.writeable and labels.tolist() == [0, 2] and outputs.min() == 0.25


def test_a_metric_has_a_direction_and_a_task():
    with pytest.raises(ConfigError) as raised:
        Metric(len, "up", "regression")
    assert [line.partition(".")[0] for line in raised.value.problems] == [
        "direction must be a direction",
        "task must be a task or None",
    ]


def test_probabilities_by_hand():
    logits = np.log([[1.0, 3.0], [9.0, 1.0]])
    np.testing.assert_allclose(
        probabilities_of(logits, Objective(ONE, 2)), [[0.25, 0.75], [0.9, 0.1]]
    )
    # 1 / (1 + exp(-log 3)) = 3 / 4
    np.testing.assert_allclose(
        probabilities_of(logits, Objective(MULTI_LABEL, 2)), [[0.5, 0.75], [0.9, 0.5]]
    )
    given = np.asarray([[0.2, 0.8]])
    np.testing.assert_array_equal(
        probabilities_of(given, Objective(ONE, 2, from_logits=False)), given
    )
    huge = probabilities_of(np.asarray([[1e5, -1e5]]), Objective(MULTI_LABEL, 2))
    np.testing.assert_allclose(huge, [[1, 0]], atol=1e-12)

"""The remarks on the result of a run, from its record alone; all numbers are worked out by hand."""

import pytest

from finetune.record.schema import Interval
from finetune.reporting.remarks import baseline_accuracy, judgement
from tests.helpers.records import make_run, rows


def run(losses=(0.9, 0.3), later=(0.2, 0.1), accuracy=0.9, interval=None):
    """Returns a completed run of two phases with these training losses; validation is 0.05 more."""
    record = make_run()
    record.history = [*rows(0, "head", 0, losses), *rows(1, "top", len(losses), later)]
    for phase, values in zip(record.phases, (losses, later), strict=True):
        phase.metrics["validation"]["loss"] = values[-1] + 0.05
    record.test["accuracy"], record.test_interval = accuracy, interval
    return record


def test_a_run_that_improved_until_its_end_has_no_remarks():
    assert judgement(run()) == []


def test_a_best_epoch_that_was_not_kept_is_named_with_the_way_to_keep_it():
    assert judgement(run(losses=(0.9, 0.2, 0.3))) == [
        "Phase head: the lowest validation loss was 0.2500 in epoch 2 of 3. The last epoch, whose "
        "weights were kept, has 0.3500, which is 0.1000 more. "
        "schedule.phases.head.restore_best=true keeps the best epoch."
    ]


def test_a_generated_phase_is_restored_by_the_key_of_the_range():
    record = run(later=(0.1, 0.2))
    record.config = {"schedule": {"from_depth": 1, "phases": {"head": {}}}}
    (line,) = judgement(record)
    assert "in epoch 1 of 2" in line and "schedule.restore_best=true" in line


def test_a_restored_best_epoch_needs_no_remark():
    record = run(losses=(0.9, 0.2, 0.3))
    record.phases[0].best_epoch = 1
    assert judgement(record) == []


def test_an_invisible_difference_needs_no_remark():
    assert judgement(run(losses=(0.9, 0.30001, 0.30002))) == []


def test_a_later_phase_that_made_validation_worse_is_named_with_both_results():
    assert judgement(run(losses=(0.9, 0.3), later=(0.5, 0.4))) == [
        "Validation got worse after phase head (loss 0.3500, accuracy 85.00%): top (loss 0.4500, "
        "accuracy 90.00%). Fewer epochs or a lower learning rate in later phases may keep the "
        "earlier result."
    ]


def test_a_loss_that_is_not_finite_is_skipped():
    record = run()
    record.phases[0].metrics["validation"]["loss"] = float("nan")
    record.history = rows(0, "head", 0, (float("nan"), float("nan")))
    assert judgement(record) == []


@pytest.mark.parametrize(("accuracy", "told"), [(0.5, True), (0.49, True), (0.51, False)])
def test_a_model_no_better_than_the_most_frequent_class_is_named(accuracy, told):
    found = judgement(run(accuracy=accuracy))  # 30 of 30 + 20 + 10 test examples are of one class
    expected = (
        f"The test accuracy of {accuracy:.2%} is no better than always giving the most frequent "
        "class, which reaches 50.00%."
    )
    assert found == ([expected] if told else [])


def test_a_result_whose_interval_holds_the_baseline_is_not_clearly_better():
    (line,) = judgement(run(accuracy=0.6, interval=Interval(0.45, 0.74, 50)))
    assert line == (
        "The test accuracy of 60.00% is not clearly better than always giving the most frequent "
        "class: 50.00% lies within its 95% interval, from 45.00% to 74.00%."
    )
    assert judgement(run(accuracy=0.6, interval=Interval(0.51, 0.74, 50))) == []


def test_the_multi_label_baseline_gives_the_more_frequent_answer_for_each_label():
    record = run(accuracy=0.6)
    record.dataset.multi_label = True
    # of 50 examples 30, 20 and 10 have the labels: 30 + 30 + 40 of 150 answers are right
    assert baseline_accuracy(record) == pytest.approx(100 / 150)
    (line,) = judgement(record)
    assert "no better than always giving the more frequent answer for each label" in line


def test_without_a_test_split_there_is_no_baseline():
    record = run()
    record.test, record.test_per_class = {}, []
    assert baseline_accuracy(record) is None and judgement(record) == []


def test_a_run_of_one_exact_phase_has_no_remarks():
    record = run()
    record.phases, record.history = record.phases[:1], record.history[:2]
    record.phases[0].metrics["validation"]["loss"] = 0.95
    assert judgement(record) == []

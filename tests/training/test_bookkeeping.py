"""What the log says of a phase: its counts, with the sum that Keras reports, and its epochs."""

import logging

from finetune.freezing.counts import WeightCounts
from finetune.freezing.policies.depth import Depth
from finetune.record.schema import MetricRow
from finetune.schedule.phase import Phase
from finetune.training.bookkeeping import log_counts, log_epoch
from tests.helpers.records import make_run


def test_the_counts_of_a_phase_end_with_the_sum_that_keras_calls_non_trainable(caplog):
    caplog.set_level(logging.INFO)
    head = {
        "trainable": {"weights": 2, "parameters": 2570},
        "frozen": {"weights": 0, "parameters": 0},
        "untrainable": {"weights": 0, "parameters": 0},
    }
    total = {
        "trainable": {"weights": 2, "parameters": 2570},
        "frozen": {"weights": 27, "parameters": 1_225_024},
        "untrainable": {"weights": 18, "parameters": 2688},
    }
    rule = Depth(0)
    log_counts(Phase("probe", 1, 0.1, rule), WeightCounts(total, {"head": head}, 0))
    assert caplog.messages == [
        "phase probe, total: trainable 2 weights / 2570 parameters, frozen 27 weights / 1225024 "
        "parameters, untrainable 18 weights / 2688 parameters, non-trainable 45 weights / 1227712 "
        "parameters",
        "phase probe, head: trainable 2 weights / 2570 parameters, frozen 0 weights / 0 parameters, "
        "untrainable 0 weights / 0 parameters, non-trainable 0 weights / 0 parameters",
        "phase probe: trainable 2 / 2,570, non-trainable 45 / 1,227,712 (weights / parameters)",
    ]


def test_an_epoch_is_one_line_with_its_metrics(caplog):
    caplog.set_level(logging.INFO)
    phase = make_run().phases[0]
    phase.epochs_run, phase.epochs_planned = 2, 5
    rows = [
        MetricRow(0, "head", 1, 1, "train", 0.1, 0.25, 0.9, 1.5),
        MetricRow(0, "head", 1, 1, "validation", 0.1, 1 / 3, 0.875, 0.25),
    ]
    log_epoch(phase, rows)
    assert caplog.messages == [
        "phase head, epoch 2 of 5: train loss 0.25, accuracy 0.9000, "
        "validation loss 0.333333, accuracy 0.8750, 1.8 s"
    ]

"""How far weights moved, worked out by hand."""

import math

import numpy as np
import pytest

from finetune.freezing.inventory import to_numpy
from finetune.training.movement import Movement
from tests.helpers.resumable_runs import PHASES, Run


def head_paths(inventory):
    return [info.path for info in inventory.infos if info.stage == "head"]


def test_the_distance_over_the_norm_by_stage(tiny):
    kernel, bias = (tiny.variables[path] for path in head_paths(tiny))
    kernel.assign(np.full((4, 3), 2.0))  # squares: 12 × 4
    bias.assign([0.0, 0.0, 4.0])  # and 16: a norm of 8
    movement = Movement(tiny, head_paths(tiny))
    kernel.assign(np.full((4, 3), 2.5))  # squares of the distance: 12 × 1/4
    bias.assign([1.0, 0.0, 4.0])  # and 1: a distance of 2
    assert movement.by_stage() == {"stage1": 0.0, "stage2": 0.0, "head": 0.25}


def test_weights_that_hold_still_in_a_moving_stage_count_in_its_norm(tiny):
    kernel, bias = (tiny.variables[path] for path in head_paths(tiny))
    kernel.assign(np.full((4, 3), 2.0))
    bias.assign([0.0, 0.0, 4.0])
    movement = Movement(tiny, head_paths(tiny)[1:])
    bias.assign([0.0, 2.0, 4.0])
    assert movement.by_stage()["head"] == 2 / 8


def test_what_an_earlier_process_began_with_is_what_counts(tiny):
    (path, *_) = head_paths(tiny)
    tiny.variables[path].assign(np.full((4, 3), 3.0))
    tiny.variables[head_paths(tiny)[1]].assign(np.zeros(3))
    movement = Movement(tiny, [path], {path: np.full((4, 3), 2.0)})
    assert movement.by_stage()["head"] == 0.5


def test_a_standardised_head_is_measured_in_plain_coordinates():
    run = Run(None, phases=PHASES[:1], standardise=True)
    head = [run.inventory.variables[path] for path in head_paths(run.inventory)]

    def values():
        return np.concatenate([to_numpy(variable).ravel() for variable in head])

    before = values()
    changes = run.run().record.phases[0].weight_change
    distance = np.linalg.norm(values() - before) / np.linalg.norm(before)
    assert changes["head"] == pytest.approx(distance, rel=1e-4)


def test_from_nothing_there_is_no_ratio(tiny):
    kernel, bias = (tiny.variables[path] for path in head_paths(tiny))
    kernel.assign(np.zeros((4, 3)))
    bias.assign(np.zeros(3))
    movement = Movement(tiny, head_paths(tiny))
    assert movement.by_stage()["head"] == 0.0
    bias.assign([0.0, 1.0, 0.0])
    assert movement.by_stage()["head"] == math.inf

"""Jobs of a sweep share a model and what is compiled for it, and nothing else."""

import time

import numpy as np

from finetune import runs
from finetune.building import Workbench
from finetune.composition import compose_config
from finetune.reading import read

SMALL = [
    "experiment=resnet_freeze", "dataset.max_samples=60", "schedule.to_depth=1",
    "schedule.epochs_per_phase=1", "schedule.phases.head.epochs=2", "schedule.batch_norm=train",
]  # fmt: skip


def train(workbench, directory, rate, *more):
    overrides = [*SMALL, f"schedule.learning_rate={rate}", *more]
    directory.mkdir(parents=True)
    record = runs.train(
        read(compose_config(overrides)), directory, overrides, time.time(), workbench
    )
    weights = dict(np.load(directory / "checkpoints/last/weights.npz"))
    return record, weights


def same(left, right):
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name]) for name in left
    )


def test_a_job_on_a_used_model_gives_the_bits_of_a_run_alone(tmp_path):
    shared = Workbench(keep=True)
    _, first = train(shared, tmp_path / "1", 1e-3)
    built = shared._built
    second_record, second = train(shared, tmp_path / "2", 1e-2)
    assert shared._built is built
    assert not same(first, second)
    _, third = train(shared, tmp_path / "3", 1e-3)
    assert same(first, third)
    alone_record, alone = train(Workbench(), tmp_path / "alone", 1e-2)
    assert same(second, alone)
    assert second_record.test == alone_record.test
    assert [each.metrics for each in second_record.phases] == [
        each.metrics for each in alone_record.phases
    ]


def test_whatever_changes_the_model_is_built_anew(tmp_path):
    shared = Workbench(keep=True)
    shared.run(read(compose_config([*SMALL, "seed=0"])))
    built = shared._built
    for change in ("seed=1", "head.dropout=0.5", "dataset.max_samples=40"):
        shared.run(read(compose_config([*SMALL, change])))
        assert shared._built is not built
        built = shared._built
    shared.forget()
    assert shared._built is None

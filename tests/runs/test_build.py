"""Jobs of a sweep share a model and what is compiled for it, and nothing else."""

import warnings

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.errors import ConfigError
from finetune.record.schema import FeatureDecision
from finetune.reporting.terminal.console import make_console
from finetune.runs import preview
from finetune.runs.build import Workbench
from finetune.runs.describe import describe, phase_costs
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import resume_point
from tests.helpers.training_runs import train_run

SMALL = [
    "experiment=resnet_freeze", "dataset.max_samples=60", "schedule.to_depth=1",
    "schedule.epochs_per_phase=1", "schedule.phases.head.epochs=2", "schedule.batch_norm=train",
]  # fmt: skip


def train(workbench, directory, rate, *more):
    overrides = [*SMALL, f"schedule.learning_rate={rate}", *more]
    record = train_run(directory, overrides, workbench)
    weights = Checkpoints(directory / "checkpoints").latest(resume_point).arrays["weights"]
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
    alone_record, alone = train(Workbench(), tmp_path / "alone", 1e-2)
    assert same(second, alone)
    assert second_record.test == alone_record.test
    assert [phase.metrics for phase in second_record.phases] == [
        phase.metrics for phase in alone_record.phases
    ]


@pytest.mark.parametrize("more", [["features.cache=never"], ["dataset.batch_size=7"]])
def test_the_recorded_test_metrics_are_those_of_the_saved_model(tmp_path, more):
    overrides = [
        "experiment=resnet_probe", "dataset.max_samples=60", "schedule.phases.head.epochs=3",
        *more,
    ]  # fmt: skip
    workbench = Workbench()
    record = train_run(tmp_path / "run", overrides, workbench)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / "run/model"))
    split = workbench._built.dataset.splits["test"]
    images = np.stack(
        [tf.io.decode_image(content, channels=3).numpy() for content in split.examples]
    )
    logits = model.predict(images, verbose=0)
    losses = keras.losses.sparse_categorical_crossentropy(split.labels, logits, from_logits=True)
    assert record.test["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-4)
    correct = np.mean(np.argmax(logits, 1) == split.labels)
    assert record.test["accuracy"] == pytest.approx(float(correct))


def test_validation_features_are_shared_by_training_subsets(tmp_path):
    extracted = []
    for seed in (0, 1):
        overrides = [
            "experiment=resnet_probe", "schedule.phases.head.epochs=1", f"seed={seed}",
            "dataset.train_per_class=2", "features.cache=always", f"features.dir={tmp_path}/f",
        ]  # fmt: skip
        record = train_run(tmp_path / str(seed), overrides)
        extracted.append(record.phases[0].features["samples_extracted"])
    assert extracted == [20 + 100 + 797, 20]


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


def test_check_tries_the_phase_that_trains_most_first(monkeypatch, capsys):
    tried = []

    class Spy(preview.Trainer):
        def __init__(self, setup, *arguments):
            tried.extend(phase.name for phase in setup.phases)
            super().__init__(setup, *arguments)

    monkeypatch.setattr(preview, "Trainer", Spy)
    preview.check(read(compose_config([*SMALL, "dataset.max_samples=20"])), make_console())
    assert tried == ["stage3", "head"]
    shown = capsys.readouterr().out
    assert shown.index("\nhead") < shown.index("\nstage3")  # in the order of the schedule


def test_a_metric_of_other_data_is_refused_under_the_key_that_names_it():
    overrides = [
        "metrics=[micro_f1]",
        "schedule.monitor=mean_average_precision", "schedule.phases.head.monitor=micro_f1",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        Workbench().run(read(compose_config([*SMALL, *overrides])))
    assert [problem.partition(" must be a metric for single-label")[0]
            for problem in raised.value.problems] == [
        "metrics", "schedule.phases.head.monitor", "schedule.monitor",
    ]  # fmt: skip


def test_phases_cost_more_where_more_trains_and_less_is_stored():
    config = read(compose_config(["experiment=resnet_freeze", "dataset.max_samples=60"]))
    run = Workbench().run(config)
    record = describe(run)
    stages = [name for name in run.built.inventory.stage_names if name != "head"]
    record.features = [
        FeatureDecision("head", "pooler", "", True, below=dict.fromkeys(stages, 1.0)),
        FeatureDecision("stage3", "relu", "", False, below=dict.fromkeys(stages[:3], 1.0)),
    ]
    costs, prefix, closing = phase_costs(run, record)
    assert [cost.epochs for cost in costs] == [20, 2, 2, 2, 2]
    assert costs[0].work == 3 * 256 * 10  # forward, and back to the weights and the inputs
    assert costs[0].traced == 3 * 2
    whole = prefix + 2560
    assert whole < costs[1].work < 3 * whole and costs[-1].work > 0.99 * 3 * whole
    assert [cost.work for cost in costs] == sorted(cost.work for cost in costs)
    assert closing == record.dataset.splits["test"] * whole

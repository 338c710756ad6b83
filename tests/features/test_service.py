"""Every part of the key, what is refused, concurrency, and recovery of a run's features."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from finetune.errors import ConfigError
from finetune.features import extraction
from finetune.features.arrays import EntryWriter
from finetune.freezing.policies.patterns import Patterns
from finetune.schedule.phase import Phase
from tests.helpers.feature_runs import CONTEXT, build, make_source, progressive, train
from tests.helpers.tiny_model import make_tiny


def extracted(run):
    return run.record.phases[0].features["samples_extracted"]


def opened(built, directory, phases=None, **settings):
    """Returns how many samples are extracted for the first phase; trains nothing."""
    source = make_source(built, phases or progressive(0), directory, **settings)
    return source.open(0, lambda *_: None).record["samples_extracted"]


@pytest.fixture(scope="module")
def usual():
    return build()


def test_a_second_run_reads_what_the_first_has_stored(tmp_path):
    first = train(make_tiny, progressive(0, 1), tmp_path)
    again = train(make_tiny, progressive(0, 1, rate=1e-2), tmp_path)
    assert extracted(first) == 22 + 10 + 6  # test: the last phase is cached too
    assert extracted(again) == 0
    assert {decision.reason for decision in again.decisions} == {"on disk already"}
    assert {what for what, _, _ in first.extracted} == {"train", "validation", "test"}
    assert not again.extracted
    done = [number for _, number, _ in first.extracted]
    assert done == sorted(done) and done[-1] == 22 + 10 + 6  # one count over all splits
    assert {total for _, _, total in first.extracted} == {22 + 10 + 6}


def changed_weight(inventory):
    inventory.variables["s1_conv/kernel"].assign(inventory.variables["s1_conv/kernel"] * 1.001)


def changed_statistic(inventory):
    inventory.variables["s2_bn/moving_mean"].assign(np.full(4, 0.1, "float32"))


def other_graph():
    model, stages = make_tiny()
    model.get_layer("backbone").get_layer("s1_bn").epsilon = 0.5
    return model, stages


@pytest.mark.parametrize(
    "change",
    [
        {"meddle": changed_weight},
        {"meddle": changed_statistic},
        {"make": other_graph},
        {"phases": progressive(1)},
        {"dtype": "float16"},
        *[{"context": {**CONTEXT, key: "other"}} for key in CONTEXT],
        {"context": {**CONTEXT, "versions": {"keras": "3.99"}}},
    ],
    ids=lambda change: "-".join(change),
)
def test_whatever_the_numbers_depend_on_is_in_the_key(usual, tmp_path, change):
    change = dict(change)
    other = {key: change.pop(key) for key in ("make", "meddle") if key in change}
    assert opened(usual, tmp_path) == 38
    assert opened(usual, tmp_path) == 0
    built = build(**other) if other else usual
    assert opened(built, tmp_path) == (38 if other else 0)
    assert opened(built, tmp_path, **change) == (0 if other else 38)


def test_a_head_or_a_weight_above_the_cut_is_not_in_the_key(tmp_path):
    def other_head(inventory):
        inventory.variables["logits/kernel"].assign(np.ones((4, 3), "float32"))

    assert opened(build(), tmp_path) == 38
    assert opened(build(meddle=other_head), tmp_path) == 0


def test_a_prefix_that_trains_before_is_extracted_when_it_stands_still(tmp_path):
    phases = [*progressive(2), *progressive(0)]
    cached, computed = (train(make_tiny, phases, tmp_path, c) for c in ("always", "never"))
    assert [decision.stored for decision in cached.decisions] == [False, False]
    assert "decided at phase depth0" in cached.decisions[1].reason
    features = [phase.features for phase in cached.record.phases]
    assert [phase["cached"] for phase in features] == [False, True]
    assert features[1]["samples_extracted"] == 38
    for path, value in computed.weights.items():
        np.testing.assert_allclose(cached.weights[path], value, 1e-4, 1e-5, err_msg=path)


def test_a_phase_that_wakes_batch_norm_below_is_not_cached_there(tmp_path):
    rule = Patterns(train=("s1_bn/gamma", "logits/.*"), freeze=(".*",))
    run = train(make_tiny, [Phase("awake", 2, 1e-3, rule, batch_norm="train")], tmp_path)
    assert run.decisions[0].cut == "s1_conv"
    assert run.decisions[0].below == {"stage1": 2 / 6}  # its kernel and bias, not BatchNorm's four
    moved = run.inventory.variables["s1_bn/moving_mean"].numpy()
    assert not np.array_equal(moved, np.zeros(4))


def test_a_layer_that_cannot_be_cut_inside_is_named(tmp_path):
    class Encoder(keras.layers.Layer):
        def build(self, shape):
            self.blocks = [keras.layers.Dense(4, name=f"block{i}") for i in (1, 2)]
            for block in self.blocks:
                block.build(shape)
            self.built = True

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

        def call(self, inputs):
            if isinstance(inputs, keras.KerasTensor):
                raise TypeError("needs values")
            return self.blocks[1](self.blocks[0](inputs))

    def make():
        inputs = keras.Input((4,))
        encoder = Encoder(name="encoder")
        outputs = keras.layers.Dense(3, name="logits")(encoder(inputs))
        stages = [
            SimpleNamespace(name=f"stage{i}", layers=(block,))
            for i, block in enumerate(encoder.blocks, 1)
        ]
        return keras.Model(inputs, outputs), tuple(stages)

    probe, deeper = (train(make, progressive(depth), tmp_path) for depth in (0, 1))
    assert probe.decisions[0].cut == "encoder"  # whole: the cut is above it
    assert probe.decisions[0].reason == "features.cache=always"
    assert probe.decisions[0].below == {"stage1": 1.0, "stage2": 1.0}
    assert deeper.decisions[0].cut is None and deeper.decisions[0].below == {}
    assert deeper.decisions[0].reason == (
        "no frozen prefix; not cut inside encoder (TypeError while it was traced)"
    )


def test_dropout_awake_below_is_not_cached(tmp_path):
    rule = Patterns(train=("s1_conv/bias", "logits/.*"), freeze=(".*",))
    run = train(lambda: make_tiny(dropout=0.5), [Phase("drop", 1, 1e-3, rule)], tmp_path)
    assert run.decisions[0].cut is None and run.decisions[0].reason == "no frozen prefix"


def test_random_augmentation_is_never_stored_silently(tmp_path):
    run = train(make_tiny, progressive(0), tmp_path, cache="auto", augmentation="light")
    assert not run.decisions[0].stored
    assert run.decisions[0].reason == "random augmentation; features.views=K stores K views"
    with pytest.raises(ConfigError, match=r"features\.views must be at least 1"):
        train(make_tiny, progressive(0), tmp_path, augmentation="light")


def test_views_are_stored_each_and_read_in_turn(tmp_path):
    run = train(make_tiny, progressive(0, epochs=3), tmp_path, augmentation="light", views=2)
    assert extracted(run) == 2 * 22 + 10 + 6
    assert {what for what, _, _ in run.extracted} >= {"train, view 0", "train, view 1"}


def test_a_narrow_dtype_stays_close_and_what_it_cannot_hold_is_refused(tmp_path):
    full, half = (
        train(make_tiny, progressive(0), tmp_path, dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert half.decisions[0].bytes * 2 == full.decisions[0].bytes
    kernel = "logits/kernel"
    np.testing.assert_allclose(half.weights[kernel], full.weights[kernel], atol=0.02)

    def loud(inventory):
        inventory.variables["s2_bn/beta"].assign(np.full(4, 1e5, "float32"))

    with pytest.raises(ConfigError, match=r"features\.dtype must be able to hold.*float16"):
        train(make_tiny, progressive(0), tmp_path, dtype="float16", meddle=loud)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_auto_stores_what_pays_and_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction.Prefix, "seconds_per_row", lambda *_: 1.0)
    slow = train(make_tiny, progressive(0, epochs=3), tmp_path, cache="auto")
    assert slow.decisions[0].stored and slow.decisions[0].saves_seconds > 0
    monkeypatch.setattr(extraction.Prefix, "seconds_per_row", lambda *_: 1e-12)
    fast = train(make_tiny, progressive(0), tmp_path / "other", cache="auto")
    assert fast.decisions[0].reason == "would cost time"
    assert not fast.record.phases[0].features["cached"]


def test_the_measurement_is_real(tmp_path):
    run = train(make_tiny, progressive(0), tmp_path, cache="auto")
    assert run.decisions[0].reason in ("saves time", "would cost time")
    assert run.decisions[0].saves_seconds > 0


def train_in_process(directory, queue):
    run = train(make_tiny, progressive(0), directory)
    queue.put((extracted(run), run.record.test["loss"]))


@pytest.mark.slow
def test_three_processes_at_once_extract_once_and_agree(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=train_in_process, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=240) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(number for number, _ in found) == [0, 0, 38]
    assert len({loss for _, loss in found}) == 1


def extract_and_hang(directory, queue):
    original = EntryWriter.write

    def write(writer, batches):
        original(writer, batches)
        queue.put("written")
        time.sleep(60)

    EntryWriter.write = write
    train(make_tiny, progressive(0), directory)


@pytest.mark.slow
def test_a_kill_during_extraction_leaves_a_right_next_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=extract_and_hang, args=(tmp_path, queue))
    process.start()
    assert queue.get(timeout=120) == "written"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    run = train(make_tiny, progressive(0), tmp_path)
    plain = train(make_tiny, progressive(0), tmp_path, cache="never")
    assert extracted(run) == 38
    np.testing.assert_allclose(run.record.test["loss"], plain.record.test["loss"], rtol=1e-4)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_head_that_trains_in_parts_keeps_its_moments_apart(tmp_path):
    rule = Patterns(train=("logits/kernel",), freeze=(".*",))
    phases = [*progressive(0), Phase("kernel", 2, 1e-3, rule)]
    cached, computed = (train(make_tiny, phases, tmp_path, cache) for cache in ("always", "never"))
    for path, value in computed.weights.items():
        np.testing.assert_allclose(cached.weights[path], value, 1e-4, 1e-5, err_msg=path)


def test_a_probe_in_two_phases_trains_as_in_one(tmp_path):
    (one,) = progressive(0, epochs=6)
    halves = [replace(one, name=name, epochs=3) for name in "ab"]
    whole, split = train(make_tiny, [one], tmp_path), train(make_tiny, halves, tmp_path)
    for path in ("logits/kernel", "logits/bias"):
        np.testing.assert_allclose(split.weights[path], whole.weights[path], 1e-4, 1e-6)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=r"features\.dir must be a directory.*file"):
        train(make_tiny, progressive(0), file)

"""One pass over a split: batches of any spec, failures in a thread, and waiting for others."""

import os
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.features import extraction
from finetune.features.cut import find_cut, task_graph
from finetune.features.entries import FeatureSettings, Items
from finetune.features.extraction import Prefix, make_missing
from finetune.features.feeding import Source
from finetune.features.store import Store
from finetune.freezing.inventory import take_inventory
from finetune.freezing.plan import make_plan
from tests.helpers.feature_runs import progressive

KEY = "0" * 64


def prefix_of_lengths():
    """Returns the frozen prefix of a model of sequences of any length, with all that it is made of."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 2))
    x = keras.layers.GlobalAveragePooling1D(name="pool")(keras.layers.Dense(4, name="low")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    stage = type("Stage", (), {"name": "stage1", "layers": (model.get_layer("low"),)})
    inventory = take_inventory(model, [stage])
    graph = task_graph(inventory)
    (phase,) = progressive(0)
    cut = find_cut(
        graph, inventory, make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)
    )
    return Prefix(graph, [cut]), graph, cut, inventory


def source(rows):
    batches = tf.data.Dataset.from_tensor_slices
    return Source(len(rows), np.zeros(len(rows), int), lambda size, _: batches(rows).batch(size))


def test_splits_of_another_spec_are_traced_before_any_thread_runs():
    prefix, *_ = prefix_of_lengths()
    rows = np.random.default_rng(0).normal(size=(40, 5, 2))
    found = [
        np.concatenate([part for (part,) in prefix.batches(source(given), None)])
        for given in (rows, rows.astype("float32"), np.tile(rows, (1, 2, 1)).astype("float32"))
    ]
    for each in found:
        np.testing.assert_allclose(each, found[0], rtol=1e-5, atol=1e-6)


def test_a_batch_that_fails_ends_the_pass_and_gives_the_locks_back(tmp_path, monkeypatch):
    prefix, graph, cut, inventory = prefix_of_lengths()
    rows = np.zeros((400, 5, 2), np.float32)
    split, begun = source(rows), []

    def computed(spec):
        def fail(batch):
            begun.append(len(batch))
            time.sleep(0.01)
            raise ValueError("no such kernel")

        return fail

    monkeypatch.setattr(prefix, "_compiled", computed)
    settings = FeatureSettings("always", tmp_path, 10**9)
    items = Items(graph, inventory.variables, {"train": split}, settings, {})
    store, item = Store(tmp_path, 10**9), items.of(cut, "train", None, "")
    with pytest.raises(ValueError, match="no such kernel"):
        make_missing([item], store, lambda cuts: prefix, {"train": split}, lambda *_: None)
    assert len(begun) <= 2 * extraction.IN_FLIGHT + 1  # of 25 batches
    with Store(tmp_path, 10**9).locked([item.key], lambda *_: pytest.fail("still locked")):
        pass


def test_who_waits_says_for_what_and_for_whom_and_can_be_stopped(tmp_path, caplog):
    prefix, graph, cut, inventory = prefix_of_lengths()
    split = source(np.zeros((4, 5, 2), np.float32))
    settings = FeatureSettings("always", tmp_path, 10**9)
    item = Items(graph, inventory.variables, {"train": split}, settings, {}).of(
        cut, "train", None, ""
    )
    store, said = Store(tmp_path, 10**9), []

    def stop_the_second_time(what, done, total):
        said.append((time.perf_counter(), what, total))
        if len(said) == 2:
            raise KeyboardInterrupt

    with Store(tmp_path, 10**9).locked([item.key], lambda *_: None):
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            make_missing([item], store, lambda cuts: prefix, {"train": split}, stop_the_second_time)
    assert said[0][0] - began < 1
    line = (
        f"waiting for process {os.getpid()}, which computes the features of train at "
        f"pool (entry {item.key[:12]})"
    )
    assert [each[1:] for each in said] == [(line, 0), (line, 0)]
    assert caplog.messages.count(line) == 1
    assert make_missing([item], store, lambda cuts: prefix, {"train": split}, lambda *_: None) == 4


def test_a_holder_that_is_not_known_is_another_process(tmp_path):
    with Store(tmp_path, 10**9).locked([KEY], lambda *_: None):
        (tmp_path / "locks" / f"{KEY}.lock").write_text("")
        with pytest.raises(LookupError, match="another process"):
            with Store(tmp_path, 10**9).locked([KEY], _stop):
                pytest.fail("the lock was held twice")


def _stop(key, holder):
    raise LookupError(holder)

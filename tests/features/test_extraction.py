"""One pass over a split: batches of any spec, failures in a thread, and waiting for others."""

import os
import time

import keras
import numpy as np
import pytest

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader
from finetune.features import extraction
from finetune.features.cut import task_graph
from finetune.features.extraction import make_missing
from finetune.features.phase_cuts import FeatureSettings, PhaseCuts
from finetune.features.store import Store
from finetune.freezing.inventory import take_inventory
from finetune.freezing.plan import make_plan
from tests.helpers.feature_runs import progressive

KEY = "0" * 64


def cuts_of_lengths(train, directory):
    """Returns the cuts of a probe on a model of sequences of any length."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 2))
    x = keras.layers.GlobalAveragePooling1D(name="pool")(keras.layers.Dense(4, name="low")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    stage = type("Stage", (), {"name": "stage1", "layers": (model.get_layer("low"),)})
    inventory = take_inventory(model, [stage])
    (phase,) = progressive(0)
    plan = make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)
    settings = FeatureSettings("always", directory, 10**9)
    return PhaseCuts(inventory, task_graph(inventory), [plan], {"train": train}, settings, {})


def examples(rows):
    labels = np.zeros(len(rows), int)
    return Examples(Split("train", rows, labels), ArrayReader(), labels)


def test_splits_of_another_spec_are_traced_before_any_thread_runs(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 5, 2))
    cuts = cuts_of_lengths(examples(rows), tmp_path)
    prefix = cuts.prefix(tuple(cuts.of_phase))
    found = [
        np.concatenate([part for (part,) in prefix.batches(examples(given), None)])
        for given in (rows, rows.astype("float32"), np.tile(rows, (1, 2, 1)).astype("float32"))
    ]
    for features in found:
        np.testing.assert_allclose(features, found[0], rtol=1e-5, atol=1e-6)


def test_a_batch_that_fails_ends_the_pass_and_gives_the_locks_back(tmp_path, monkeypatch):
    train, begun = examples(np.zeros((400, 5, 2), np.float32)), []
    cuts = cuts_of_lengths(train, tmp_path)
    prefix = cuts.prefix(tuple(cuts.of_phase))

    def computed(spec):
        def fail(batch):
            begun.append(len(batch))
            time.sleep(0.01)
            raise ValueError("no such kernel")

        return fail

    monkeypatch.setattr(prefix, "_compiled", computed)
    store, entry = Store(tmp_path, 10**9), cuts.entry(0, "train", None)
    with pytest.raises(ValueError, match="no such kernel"):
        make_missing([entry], store, cuts.prefix, {"train": train}, lambda *_: None)
    assert len(begun) <= 2 * extraction.IN_FLIGHT + 1  # of 25 batches
    with Store(tmp_path, 10**9).locked([entry.key], lambda *_: pytest.fail("still locked")):
        pass


def test_who_waits_says_for_what_and_for_whom_and_can_be_stopped(tmp_path, caplog):
    train = examples(np.zeros((4, 5, 2), np.float32))
    cuts = cuts_of_lengths(train, tmp_path)
    entry = cuts.entry(0, "train", None)
    store, said = Store(tmp_path, 10**9), []

    def stop_the_second_time(what, done, total):
        said.append((time.perf_counter(), what, total))
        if len(said) == 2:
            raise KeyboardInterrupt

    with Store(tmp_path, 10**9).locked([entry.key], lambda *_: None):
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            make_missing([entry], store, cuts.prefix, {"train": train}, stop_the_second_time)
    assert said[0][0] - began < 1
    line = (
        f"waiting for process {os.getpid()}, which computes the features of train at "
        f"pool (entry {entry.key[:12]})"
    )
    assert [heard[1:] for heard in said] == [(line, 0), (line, 0)]
    assert caplog.messages.count(line) == 1
    assert make_missing([entry], store, cuts.prefix, {"train": train}, lambda *_: None) == 4


def test_a_holder_that_is_not_known_is_another_process(tmp_path):
    with Store(tmp_path, 10**9).locked([KEY], lambda *_: None):
        (tmp_path / "locks" / f"{KEY}.lock").write_text("")
        with pytest.raises(LookupError, match="another process"):
            with Store(tmp_path, 10**9).locked([KEY], _stop):
                pytest.fail("the lock was held twice")


def _stop(key, holder):
    raise LookupError(holder)

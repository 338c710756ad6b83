"""The store: entries are whole or absent, checked, within the budget, and made by one process."""

import multiprocessing
import os
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from finetune.features.arrays import MANIFEST, ArraySpec
from finetune.features.store import Store, features_directory, key_of

KEY = key_of({"weights": "a"})
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
SPEC = [ArraySpec((3,), "float32")]


def put(store, key=KEY, rows=ROWS, spec=SPEC):
    with store.writer(key, len(rows), spec, {"split": "train"}) as writer:
        writer.write([rows[:3]])
        writer.write([rows[3:]])


def test_what_is_written_is_read_and_shared(tmp_path):
    put(Store(tmp_path, 10**9))
    entry = Store(tmp_path, 10**9).open(KEY)
    np.testing.assert_array_equal(entry.arrays[0], ROWS)
    assert entry.num_bytes == 48
    (info,) = Store(tmp_path, 10**9).entries()
    assert (info.num_samples, info.ingredients) == (4, {"split": "train"})
    assert info.num_bytes > 48  # the manifest counts too


def test_every_ingredient_is_in_the_key():
    assert key_of({"a": 1}) != key_of({"a": 2}) != key_of({"b": 2})
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_an_unfinished_entry_is_absent(tmp_path):
    store = Store(tmp_path, 10**9)
    with (
        pytest.raises(ValueError, match=r"4 samples must be written\. Got 3"),
        store.writer(KEY, 4, SPEC, {}) as writer,
    ):
        writer.write([ROWS[:3]])
        assert store.open(KEY) is None
    assert store.open(KEY) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest", "file"])
def test_damage_is_noticed_and_the_entry_removed(tmp_path, damage):
    put(Store(tmp_path, 10**9))
    file = tmp_path / KEY / "0.bin"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[5] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "manifest":
        (tmp_path / KEY / MANIFEST).write_text("{")
    else:
        file.unlink()
    assert Store(tmp_path, 10**9).open(KEY) is None
    assert not (tmp_path / KEY).exists()


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_narrow_dtypes_keep_their_precision_and_refuse_what_they_cannot_hold(tmp_path, dtype, bits):
    store = Store(tmp_path, 10**9)
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    put(store, rows=rows, spec=[ArraySpec((3,), dtype)])
    (stored,) = store.open(KEY).arrays
    np.testing.assert_allclose(stored.astype(np.float32), rows, rtol=2.0**-bits)
    with (
        pytest.raises(OverflowError, match="float16, which cannot hold 70000"),
        store.writer(key_of({}), 1, [ArraySpec((1,), "float16")], {}) as writer,
    ):
        writer.write([np.array([[7e4]], np.float32)])
    with store.writer(key_of({}), 1, [ArraySpec((1,), "bfloat16")], {}) as wide:
        wide.write([np.array([[7e4]], np.float32)])
    (value,) = store.open(key_of({})).arrays
    assert value.dtype == ml_dtypes.bfloat16


def test_the_least_recently_used_go_first_and_kept_ones_stay(tmp_path):
    store = Store(tmp_path, 10**9)
    keys = [key_of({"n": n}) for n in range(4)]
    for age, key in enumerate(keys):
        put(store, key)
        os.utime(tmp_path / key / MANIFEST, (1000 + age, 1000 + age))
    store.open(keys[0])  # now the most recent
    size = store.entries()[0].num_bytes
    tight = Store(tmp_path, 3 * size)
    tight.make_room(size, keep=[keys[1]])
    assert {entry.key for entry in tight.entries()} == {keys[0], keys[1]}
    assert tight.clear() == 2 * size
    assert tight.entries() == []


def test_leftovers_go_unless_one_is_being_written(tmp_path):
    left = tmp_path / f".{KEY}.new-1"
    left.mkdir()
    store = Store(tmp_path, 10**9)
    with store.locked([KEY], lambda *_: None):
        assert Store(tmp_path, 10**9).entries() == []
        assert left.is_dir()
    assert store.entries() == []
    assert not left.exists()


def make_slowly(folder, queue):
    store = Store(folder, 10**9)
    with store.locked([KEY], lambda *_: None):
        if store.open(KEY) is None:
            time.sleep(0.3)
            put(store)
            queue.put("made")
    queue.put(float(store.open(KEY).arrays[0].sum()))


def test_only_what_is_ours_is_removed(tmp_path):
    foreign = [tmp_path / name for name in (".python.3999999", f".{KEY}.x", "models", ".cache.1")]
    for path in foreign:
        path.mkdir()
    store = Store(tmp_path, 10**9)
    assert store.entries() == [] and store.clear() == 0
    assert all(path.is_dir() for path in foreign)


@pytest.mark.parametrize("manifest", [None, "[1]", "{"])
def test_a_damaged_entry_is_counted_and_cleared(tmp_path, manifest):
    store = Store(tmp_path, 10**9)
    put(store)
    path = tmp_path / KEY / MANIFEST
    if manifest is None:
        path.unlink()
    else:
        path.write_text(manifest)
    (info,) = store.entries()
    assert info.ingredients == {"label": "damaged"} and info.num_bytes >= 48
    assert store.clear() == info.num_bytes
    assert not (tmp_path / KEY).exists()


def test_where_the_store_is(monkeypatch):
    monkeypatch.setenv("FINETUNE_FEATURES_DIR", "~/f")
    assert features_directory() == Path.home() / "f"
    assert features_directory("x") == Path("x")
    monkeypatch.setenv("FINETUNE_FEATURES_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert features_directory() == Path("/c/finetune/features")


def test_one_nan_does_not_hide_an_overflow(tmp_path):
    store = Store(tmp_path, 10**9)
    with (
        pytest.raises(OverflowError, match="1e[+]06"),
        store.writer(KEY, 1, [ArraySpec((2,), "float16")], {}) as writer,
    ):
        writer.write([np.array([[1e6, np.nan]], np.float32)])


def test_eight_processes_make_an_entry_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=make_slowly, args=(tmp_path, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in range(9)]
    for process in processes:
        process.join()
    assert sorted(map(str, found)) == ["66.0"] * 8 + ["made"]

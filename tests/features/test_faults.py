"""Faults of disk and machine: an entry is whole or absent, and a damaged one is made again."""

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune.errors import ConfigError, StorageError
from finetune.features import planner
from finetune.features.arrays import MANIFEST, read_entry, read_manifest
from finetune.features.store import LOCKS, Store, require_writable
from finetune.storage import durable
from tests.helpers.feature_entries import KEY, OTHER, is_whole, put
from tests.helpers.feature_runs import SIZES, build, make_source, progressive

FILES = ("0.bin", "1.bin", MANIFEST)


def hidden(directory):
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


# Every bit.


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_is_noticed(tmp_path, file):
    put(Store(tmp_path, 10**9))
    path = tmp_path / KEY / file
    whole, manifest = path.read_bytes(), read_manifest(tmp_path / KEY)
    assert len(whole) == {"0.bin": 48, "1.bin": 16}.get(file, len(whole)) >= 16
    unnoticed = []
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                entry = read_entry(tmp_path / KEY)
            except (ValueError, KeyError):
                continue
            unnoticed.append((position, bit))
            assert is_whole(entry) and read_manifest(tmp_path / KEY) == manifest
    # Whitespace and words of the manifest are covered; its \u00e9 may be \u00E9.
    assert len(unnoticed) == (file == MANIFEST)


def forged(manifest, **changes):
    """Writes a manifest whose own digest is right."""
    content = json.loads(manifest.read_text())
    del content["sha256"]
    content["arrays"][0] |= {k: v for k, v in changes.items() if k in content["arrays"][0]}
    content |= {k: v for k, v in changes.items() if k in content}
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps(content))


def is_directory(path):
    path.unlink()
    path.mkdir()
    (path / "inner").touch()


def is_loop(path):  # cannot be read, not even by root
    path.unlink()
    path.symlink_to(path)


def flipped(where):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[{"begin": 0, "middle": len(data) // 2, "end": len(data) - 1}[where]] ^= 1
        path.write_bytes(data)

    return flip


DAMAGES = {
    **{
        f"{kind} {name}": (name, damage)
        for name in ("0.bin", MANIFEST)
        for kind, damage in {
            "flip at begin of": flipped("begin"),
            "flip in middle of": flipped("middle"),
            "flip at end of": flipped("end"),
            "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
            "empty": lambda path: path.write_bytes(b""),
            "lost": Path.unlink,
            "a directory for": is_directory,
            "unreadable": is_loop,
        }.items()
    },
    **{
        f"forged {change}": (MANIFEST, lambda path, change=change: forged(path, **change))
        for change in (
            {"num_samples": -1},
            {"num_samples": 10**30},
            {"num_samples": 4.0},
            {"num_samples": True},
            {"num_samples": None},
            {"shape": [-1, -4]},
            {"shape": [2**62, 4]},
            {"shape": "4"},
            {"shape": None},
            {"dtype": "O"},
            {"dtype": "nothing"},
            {"dtype": "float16"},
            {"arrays": [1]},
            {"arrays": None},
            {"format": 1},
        )
    },
    **{
        f"manifest {text[:12]}": (MANIFEST, lambda path, text=text: path.write_text(text))
        for text in ("null", "[1]", "{}", "1e999", "[" * 10**5, '{"sha256": 1}')
    },
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A model, and a store that holds its features."""
    built, directory = build(), tmp_path_factory.mktemp("stored")
    make_source(built, progressive(0), directory).open(0, lambda *_: None)
    return built, directory


def contents(directory):
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in directory.glob("*/*")
        if path.parent.name != LOCKS
    }


# One for each of the three entries that a run has.
THREES = [list(DAMAGES)[first : first + 3] for first in range(0, len(DAMAGES), 3)]


@pytest.mark.parametrize("damages", THREES, ids=", ".join)
def test_a_damaged_entry_is_made_again_and_the_log_says_so(stored, tmp_path, caplog, damages):
    built, original = stored
    directory = tmp_path / "features"
    shutil.copytree(original, directory)
    before = contents(directory)
    keys = sorted({name.split("/")[0] for name in before})
    assert len(keys) == len(SIZES) == len(damages) and len(before) == 2 * len(SIZES)
    for key, damage in zip(keys, damages, strict=True):
        name, act = DAMAGES[damage]
        act(directory / key / name)
    data = make_source(built, progressive(0), directory).open(0, lambda *_: None)
    assert data.record["samples_extracted"] == sum(SIZES.values())
    assert contents(directory) == before
    said = [r.getMessage() for r in caplog.records if "will be extracted again" in r.getMessage()]
    assert sorted(text.split()[1] for text in said) == sorted(key[:12] for key in keys)
    assert hidden(directory) == []


def test_a_file_in_place_of_an_entry_is_replaced(tmp_path):
    (tmp_path / KEY).write_text("x")
    store = Store(tmp_path, 10**9)
    (info,) = store.entries()
    assert (info.num_bytes, info.ingredients) == (1, {"label": "damaged"})
    assert store.open(KEY) is None and not (tmp_path / KEY).exists()
    put(store)
    assert is_whole(store.open(KEY)) and hidden(tmp_path) == []


# A full disk.


@pytest.fixture
def restored_limit():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield limits
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def require_named(error, directory):
    for part in ("features.dir must", str(directory), "catalog features --clear", "max_gib"):
        assert part in str(error.value)


def test_a_real_limit_stops_extraction_and_the_next_run_works(
    stored, tmp_path, monkeypatch, restored_limit
):
    built, _ = stored
    make_source(built, progressive(0), tmp_path, dtype="bfloat16").open(0, lambda *_: None)
    before = contents(tmp_path)
    writes = []

    def limit(path):  # 16 rows of 4 float32 have been written, half a row more will fit
        writes.append(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 16 + 8, restored_limit[1]))

    monkeypatch.setattr(durable, "between", limit)
    source = make_source(built, progressive(0), tmp_path)
    try:
        with pytest.raises(StorageError, match="File too large") as error:
            source.open(0, lambda *_: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, restored_limit)
        monkeypatch.undo()
    require_named(error, tmp_path)
    assert len(writes) == 1 and contents(tmp_path) == before and hidden(tmp_path) == []
    data = source.open(0, lambda *_: None)
    assert data.record["samples_extracted"] == sum(SIZES.values())
    assert contents(tmp_path).items() > before.items()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("where", ["extraction", "flush"])
def test_a_full_disk_keeps_what_was_stored_before(stored, tmp_path, monkeypatch, number, where):
    built, _ = stored
    source = make_source(built, progressive(0), tmp_path)
    flush, splits = os.fsync, []

    def full(*_):
        raise OSError(number, os.strerror(number))

    def progress(split, done, total):
        splits.append(split)
        if split == "validation":  # the training split is stored
            monkeypatch.setattr(os, "fsync", full)
            if where == "extraction":
                full()

    with pytest.raises(StorageError, match=os.strerror(number)) as error:
        source.open(0, progress)
    require_named(error, tmp_path)
    assert splits[-1] == "validation" and hidden(tmp_path) == []
    (kept,) = Store(tmp_path, 10**9).entries()
    assert kept.num_samples == SIZES["train"]
    monkeypatch.setattr(os, "fsync", flush)
    data = source.open(0, lambda *_: None)
    assert data.record["samples_extracted"] == SIZES["validation"] + SIZES["test"]


def test_a_disk_that_takes_nothing_has_no_room(stored, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(planner, "disk_speed", full)
    built, _ = stored
    (auto,) = make_source(built, progressive(0), tmp_path, "auto").decisions()
    assert not auto.stored and "free disk leaves 0" in auto.reason
    with pytest.raises(ConfigError, match=r"features\.max_gib must let.*free some disk"):
        make_source(built, progressive(0), tmp_path, "always").decisions()


def test_a_store_that_loses_what_is_written_is_named(stored, tmp_path, monkeypatch):
    source = make_source(stored[0], progressive(0), tmp_path)
    monkeypatch.setattr(Store, "open", lambda *_: None)
    with pytest.raises(ConfigError, match=r"features\.dir must keep what.*has disappeared\. Check"):
        source.open(0, lambda *_: None)


# A process that is killed.

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from finetune.storage import durable
from finetune.features.store import Store
from tests.helpers.feature_entries import KEY, put
store, calls = Store(Path(sys.argv[1]), 10**9), []
def die(path):
    calls.append(path)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
durable.between = die
with store.locked([KEY], lambda *_: None):
    if store.open(KEY) is None:
        put(store)
"""
NEW_STEPS = [*[f"batch {b} of array {a}" for b in (1, 2) for a in (1, 2)],
             "manifest", "before the rename", "before the rename, place free", "after it"]  # fmt: skip
ANEW_STEPS = ["damaged one moved away", *NEW_STEPS]


@pytest.mark.parametrize("damaged", [False, True], ids=["new", "anew"])
def test_a_kill_at_each_step_leaves_the_whole_entry_or_none(tmp_path, monkeypatch, damaged):
    steps = ANEW_STEPS if damaged else NEW_STEPS
    folders = [tmp_path / str(number) for number in range(len(steps) + 1)]
    for folder in folders:
        put(Store(folder, 10**9), OTHER)
        if damaged:
            put(Store(folder, 10**9))
            flipped("end")(folder / KEY / "1.bin")
    calls = []
    monkeypatch.setattr(durable, "between", calls.append)
    if Store(folders[0], 10**9).open(KEY) is None:
        put(Store(folders[0], 10**9))
    monkeypatch.undo()
    assert len(calls) == len(steps)
    children = [
        subprocess.Popen([sys.executable, "-c", KILLED_AT, str(folder), str(number)])
        for number, folder in enumerate(folders[1:], 1)
    ]
    assert [child.wait() for child in children] == [-9] * len(steps)
    found = []
    for folder in folders[1:]:
        store = Store(folder, 10**9)
        assert hidden(folder) or (folder / KEY).exists()
        keys = {info.key for info in store.entries()}
        assert hidden(folder) == []  # listing removes what is left over
        entry = store.open(KEY)
        assert (KEY in keys) == (entry is not None)
        found.append(is_whole(entry))
        with store.locked([KEY], lambda *_: pytest.fail("the lock died with its process")):
            put(store)
        assert is_whole(store.open(KEY)) and is_whole(store.open(OTHER)) and not hidden(folder)
    assert found == [False] * (len(steps) - 1) + [True]


# A store that may not be written.


@contextmanager
def unprivileged():
    """Gives a directory, and the rights of one whom permissions bind, which root is not."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="finetune-") as name:
        root = os.getuid() == 0
        if root:
            os.chown(name, 65534, -1)
            os.setresuid(65534, 65534, 0)
        try:
            yield Path(name)
        finally:
            if root:
                os.setresuid(0, 0, 0)
            for path in Path(name).rglob("*"):
                if path.is_dir():
                    path.chmod(0o700)
            Path(name).chmod(0o700)


def test_locks_that_cannot_be_written_are_named_before_training():
    with unprivileged() as directory:
        require_writable(directory)
        (directory / LOCKS).chmod(0o500)
        with pytest.raises(ConfigError, match=r"features\.dir must be .*locks is not writable"):
            require_writable(directory)
        store = Store(directory, 10**9)
        with (
            pytest.raises(StorageError, match=r"features\.dir must have room and be writable"),
            store.guarded(),
            store.locked([KEY], lambda *_: None),
        ):
            pytest.fail("no lock was held")


def test_a_file_in_place_of_the_locks_is_named_before_training(tmp_path):
    (tmp_path / LOCKS).touch()
    with pytest.raises(ConfigError, match=r"features\.dir must be .*locks"):
        require_writable(tmp_path)


def test_a_store_that_may_only_be_read_is_listed_and_read_and_not_cleared():
    with unprivileged() as directory:
        put(Store(directory, 10**9))
        (directory / f".{OTHER}.new-1").mkdir()
        directory.chmod(0o500)
        store = Store(directory, 10**9)
        assert [entry.key for entry in store.entries()] == [KEY]
        assert is_whole(store.open(KEY))
        with pytest.raises(StorageError, match=r"features\.dir must .*Permission denied"):
            store.clear()
        assert is_whole(Store(directory, 10**9).open(KEY))


def test_an_entry_that_cannot_be_read_is_made_anew():
    with unprivileged() as directory:
        put(Store(directory, 10**9))
        (directory / KEY / "0.bin").chmod(0)
        store = Store(directory, 10**9)
        assert store.has(KEY) and store.open(KEY) is None
        put(store)
        assert is_whole(store.open(KEY))
        (directory / KEY).chmod(0)
        again = Store(directory, 10**9)
        assert not again.has(KEY) and again.entries() == [] and again.open(KEY) is None
        put(again)
        assert is_whole(again.open(KEY))

import errno
import os
import subprocess
import sys

import pytest

from finetune.errors import StorageError
from finetune.storage import durable
from finetune.storage.durable import fresh_directory, remove_left_over, write_atomically


def full(*ignored):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"run\.json must have room.*No space left.*Free some"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_directory_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "model"
    with fresh_directory(target) as fresh:
        (fresh / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(StorageError, match="model must have room"),
        fresh_directory(target) as fresh,
    ):
        (fresh / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_before_the_rename_leaves_the_old_directory(tmp_path, monkeypatch):
    target = tmp_path / "model"
    with fresh_directory(target) as fresh:
        (fresh / "a").write_text("old")
    calls = []

    def interrupt(path):
        calls.append(path)
        if len(calls) == 2:  # the old one has been moved aside
            assert not target.exists()
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "between", interrupt)
    with pytest.raises(KeyboardInterrupt), fresh_directory(target) as fresh:
        (fresh / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="model must be writable"),
        fresh_directory(tmp_path / "file" / "model"),
    ):
        pass


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from finetune.storage import durable
calls = []
def die(path):
    calls.append(path)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
durable.between = die
with durable.fresh_directory(Path(sys.argv[1]) / "model") as fresh:
    (fresh / "a").write_text("new")
"""


@pytest.mark.parametrize(("step", "content"), [(1, "old"), (2, "old"), (3, "new")])
def test_a_kill_at_any_step_leaves_one_whole_directory(tmp_path, step, content):
    with fresh_directory(tmp_path / "model") as fresh:
        (fresh / "a").write_text("old")
    command = [sys.executable, "-c", KILLED_AT, str(tmp_path), str(step)]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2  # something is left over
    remove_left_over(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    assert (tmp_path / "model" / "a").read_text() == content


def test_bytes_are_written_as_they_are(tmp_path):
    durable.write_atomically(tmp_path / "a.png", b"\x89PNG\r\n\xff")
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n\xff"

"""What a run wrote is read again as it was, or refused by the line that is not."""

import math
import os
from dataclasses import replace

import pytest

from finetune.errors import ConfigError
from finetune.record.files import (
    RecordListener,
    changed_files,
    read_csv,
    read_record,
    to_csv,
)
from finetune.storage.sealed import file_digest
from tests.helpers.records import make_run


@pytest.fixture
def run(tmp_path):
    """A run directory, and the record in it."""
    record = make_run()
    record.history[0] = replace(record.history[0], loss=math.nan, phase_name='a, "b"\nc')
    RecordListener(tmp_path).run_ended(record)
    return tmp_path, record


def test_rows_are_read_as_they_were(run):
    directory, record = run
    rows = read_csv(directory / "metrics.csv")
    assert rows[1:] == record.history[1:]
    assert math.isnan(rows[0].loss) and rows[0].phase_name == 'a, "b"\nc'
    assert to_csv(rows) == (directory / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", r"columns other than phase,.*, in line 1"),
        (lambda text: text.replace("accuracy", "acc", 1), "columns other than"),
        (lambda text: text.replace("0.9", "high", 1), r"could not convert .*'high', in line \d"),
        (lambda text: text + "1,head\n", r"argument 2 is shorter.*, in line 11"),
        (lambda text: text + "1.5,head,0,0,train,1,1,1,1\n", r"'1\.5', in line 11"),
        (lambda text: text + '0,"head', "in line"),
    ],
)
def test_damaged_rows_are_named(run, change, message):
    path = run[0] / "metrics.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(ConfigError, match=f"metrics.csv must be as a run wrote it.*{message}"):
        read_csv(path)


def test_rows_that_are_no_text_are_refused(run):
    (run[0] / "metrics.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="can't decode byte"):
        read_csv(run[0] / "metrics.csv")


def test_a_record_is_read_with_its_history(run):
    directory, record = run
    found = read_record(directory)
    assert found.history[1:] == record.history[1:]
    assert replace(found, history=[]) == replace(record, history=[])


def test_a_completed_run_has_the_rows_that_it_wrote(run):
    path = run[0] / "metrics.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match="as the run wrote it. Received: other rows"):
        read_record(run[0])
    path.unlink()
    with pytest.raises(ConfigError, match="as the run wrote it. Received: no file"):
        read_record(run[0])


def test_a_running_run_may_have_more_rows_than_its_record_knows(tmp_path):
    record = make_run("running")
    RecordListener(tmp_path).run_ended(record)
    (tmp_path / "metrics.csv").write_text(to_csv([*record.history, record.history[-1]]))
    assert len(read_record(tmp_path).history) == len(record.history) + 1


def test_a_run_before_its_first_epoch_has_no_rows(tmp_path):
    RecordListener(tmp_path).run_started(replace(make_run("running"), history=[]))
    assert read_record(tmp_path).history == []


def test_no_run_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "metrics.csv"])
def test_what_has_no_end_is_not_read(run, name):
    path = run[0] / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=f"{name} must be as .*Received: no regular file"):
        read_record(run[0])


def test_files_that_a_record_names_elsewhere_are_not_looked_at(run):
    directory, record = run
    (directory / "model").mkdir()
    (directory / "model/labels.json").write_text("{}")
    os.mkfifo(directory / "pipe")
    os.symlink("../pipe", directory / "model/link")
    record.model_sha256 = {
        "labels.json": file_digest(directory / "model/labels.json"), "../pipe": "", "link": "",
    }  # fmt: skip
    assert changed_files(directory, record) == ["model/../pipe", "model/link"]

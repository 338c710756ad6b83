"""What a run notes of itself before it trains, and what a later process takes over."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tensorflow as tf

from finetune.errors import StorageError
from finetune.record.schema import resume_record
from finetune.runs import run as runs
from tests.helpers.records import make_record

RUN = SimpleNamespace(
    built=SimpleNamespace(examples={"train": None}, dataset=SimpleNamespace(classes=("a", "b")))
)


def failing(error):
    def take_samples(*_):
        time.sleep(0.01)
        raise error

    return take_samples


def test_examples_that_cannot_be_shown_do_not_end_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(runs, "take_samples", failing(AttributeError("no pad_token_id")))
    record = make_record()
    record.seconds = {}
    runs._note_samples(record, RUN, tmp_path)
    assert record.dataset.samples == []
    assert "the training examples could not be shown" in caplog.text
    assert record.seconds["reporting"] >= 0.01


@pytest.mark.parametrize(
    "error",
    [StorageError("disk is full"), tf.errors.InvalidArgumentError(None, None, "damaged")],
)
def test_a_full_disk_and_a_damaged_example_end_it(tmp_path, monkeypatch, error):
    monkeypatch.setattr(runs, "take_samples", failing(error))
    with pytest.raises(type(error), match="full|damaged"):
        runs._note_samples(make_record(), RUN, tmp_path)


def test_a_resumed_run_was_started_when_its_first_process_was():
    now = replace(make_record(), started="2026-02-01T00:00:00+00:00")
    resume_record(now, replace(make_record(), started="2026-01-31T00:00:00+00:00"))
    assert now.started == "2026-01-31T00:00:00+00:00"
    resume_record(now, replace(make_record(), started=""))
    assert now.started == "2026-01-31T00:00:00+00:00"

"""The remarks on the data of a run, with the number of samples."""

from dataclasses import replace

from finetune.reporting.remarks import remarks
from tests.helpers.records import make_record


def test_each_irregularity_is_a_sentence():
    dataset = replace(
        make_record().dataset,
        skipped={"counts": {"train": 3, "test": 1}, "samples": []},
        repeated={"train and test": 2},
        ignored={".txt": 4, ".gif": 1},
    )
    assert list(remarks(dataset)) == [
        "Bad samples left out: train 3, test 1; run.json names them.",
        "Identical samples in two splits: 2 in train and test.",
        "Ignored files: 4 .txt, 1 .gif.",
    ]
    assert next(remarks(dataset, named_in=None)) == "Bad samples left out: train 3, test 1."


def test_sound_data_have_no_remarks():
    dataset = replace(make_record().dataset, skipped={}, repeated={}, ignored={})
    assert list(remarks(dataset)) == []

"""What of the data is not as it should be is told, with how many samples that is."""

from dataclasses import replace

from finetune.reporting.remarks import remarks
from tests.helpers.records import make_record


def test_each_thing_is_a_sentence():
    dataset = replace(
        make_record().dataset,
        skipped={"counts": {"train": 3, "test": 1}, "samples": []},
        repeated={"train and test": 2},
        ignored={".txt": 4, ".gif": 1},
    )
    assert list(remarks(dataset)) == [
        "Left out, because bad: train 3, test 1; run.json names them.",
        "The same samples in two splits: 2 in train and test.",
        "Files that are not read: 4 .txt, 1 .gif.",
    ]
    assert next(remarks(dataset, named_in=None)) == "Left out, because bad: train 3, test 1."


def test_of_sound_data_nothing_is_said():
    dataset = replace(make_record().dataset, skipped={}, repeated={}, ignored={})
    assert list(remarks(dataset)) == []

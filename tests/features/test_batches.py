"""Batches of stored features are, row by row, those that the pipeline makes of the examples."""

import numpy as np
import pytest

from finetune.datasets import pipeline
from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader
from finetune.features import batches
from finetune.features.arrays import Entry
from finetune.features.batches import StoredExamples

ROWS = np.arange(20, dtype="float32").reshape(10, 2)
TARGETS = np.arange(10, dtype="int32")
WEIGHTS = np.linspace(1, 2, 10).astype("float32")
COMPUTED = Examples(Split("train", ROWS, TARGETS), ArrayReader(), TARGETS, WEIGHTS)


def stored(*views):
    return StoredExamples(
        tuple(Entry("", (view,)) for view in views), ("float32",), TARGETS, WEIGHTS
    )


@pytest.fixture(params=["in memory", "from disk"], autouse=True)
def place(request, monkeypatch):
    if request.param == "from disk":
        monkeypatch.setattr(batches, "MEMORY_SHARE", 0)


@pytest.mark.parametrize("skip", [0, 2])
def test_training_batches_have_the_rows_and_the_order_of_the_pipeline(skip):
    asked = {"batch_size": 4, "seed": 3, "first_epoch": 1, "last_epoch": 3, "skip": skip}
    found = list(batches.training_batches(stored(ROWS), **asked))
    expected = list(pipeline.training_batches(COMPUTED, **asked))
    assert len(found) == len(expected) == 2 * 3 - skip
    for ((features,), *answers), (inputs, *expected_answers) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(features, inputs)
        for answer, expected_answer in zip(answers, expected_answers, strict=True):
            np.testing.assert_array_equal(answer, expected_answer)


def test_epochs_read_views_in_turn():
    views = [ROWS, ROWS + 100, ROWS + 200]
    for epoch in range(4):
        ((features,), *_), *_ = batches.training_batches(
            stored(*views), batch_size=10, seed=0, first_epoch=epoch, last_epoch=epoch + 1
        )
        assert np.min(features) == 100 * (epoch % 3)


def test_evaluation_batches_are_in_stored_order_without_weights():
    found = list(batches.evaluation_batches(stored(ROWS, ROWS + 100), batch_size=4))
    assert [len(targets) for _, targets in found] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([features for (features,), _ in found]), ROWS)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in found]), TARGETS)

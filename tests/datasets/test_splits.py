import numpy as np
import pytest

from finetune.datasets.splits import chosen_rows, few_shot, held_out, limit
from finetune.errors import ConfigError

LABELS = np.array([0] * 6 + [1] * 3 + [2] * 3)


def test_few_shot_keeps_so_many_of_each_class():
    rows = few_shot(LABELS, 2, seed=2**32 - 1)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert np.bincount(LABELS[rows]).tolist() == [2, 2, 2]
    assert rows.tolist() == few_shot(LABELS, 2, seed=2**32 - 1).tolist()
    assert any(few_shot(LABELS, 2, seed=s).tolist() != rows.tolist() for s in range(5))


def test_few_shot_names_class_and_count():
    with pytest.raises(ConfigError, match=r"train_per_class.*class 1 has 3.*Received: 4"):
        few_shot(LABELS, 4, seed=0)
    with pytest.raises(ConfigError, match="class bee has 3 training examples"):
        chosen_rows(LABELS, 4, None, 0, ["ant", "bee", "cat"])


def test_limit_is_stratified_and_exact():
    assert np.bincount(LABELS[limit(LABELS, 4, seed=0)]).tolist() == [2, 1, 1]
    assert len(limit(LABELS, 5, seed=0)) == 5
    assert limit(LABELS, 12, seed=0).tolist() == list(range(12))


def test_rows_of_several_labels_are_drawn_at_random():
    labels = np.eye(3, dtype=np.uint8)[LABELS]
    rows = limit(labels, 4, seed=0)
    assert rows.tolist() == sorted(set(rows.tolist())) and len(rows) == 4
    assert rows.tolist() == chosen_rows(labels, None, 4, seed=0).tolist()
    assert any(limit(labels, 4, seed=s).tolist() != rows.tolist() for s in range(1, 5))
    with pytest.raises(ConfigError, match="train_per_class must be null where an example may"):
        few_shot(labels, 2, seed=0)


def test_the_only_row_of_a_class_is_not_held_out():
    labels = np.array([0, 1, 2, 3, 4, 4, 4, 4])
    assert np.bincount(labels[held_out(labels, 2, seed=0)]).tolist() == [0, 0, 0, 0, 2]
    assert len(held_out(np.arange(4), 2, seed=0)) == 0
    assert held_out(LABELS, 4, seed=0).tolist() == limit(LABELS, 4, seed=0).tolist()

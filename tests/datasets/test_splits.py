import numpy as np
import pytest

from finetune.datasets.splits import few_shot, limit
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


def test_limit_is_stratified_and_exact():
    assert np.bincount(LABELS[limit(LABELS, 4, seed=0)]).tolist() == [2, 1, 1]
    assert len(limit(LABELS, 5, seed=0)) == 5
    assert limit(LABELS, 12, seed=0).tolist() == list(range(12))

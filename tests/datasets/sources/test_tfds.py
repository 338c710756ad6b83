import time

import numpy as np
import pytest

from finetune.datasets import memory
from finetune.datasets.sources import tfds as loading
from finetune.datasets.sources import tfds_preparation as preparing
from finetune.errors import ConfigError

SPLITS = {"train": "train", "validation": "validation", "test": "test"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def load(data_dir, name="digits", splits=SPLITS, **more):
    return loading.load(name, data_dir=data_dir, splits=splits, seed=0, **more)


def test_digits_are_split_and_stratified(data_dir, capsys):
    digits = load(data_dir)
    assert capsys.readouterr().out == ""
    counts = {name: split.num_examples for name, split in digits.splits.items()}
    assert counts == {"train": 900, "validation": 100, "test": 797}
    assert digits.classes == tuple("0123456789")
    assert np.bincount(digits.splits["train"].labels).min() >= 86
    assert digits.splits["train"].examples[0].startswith(b"\x89PNG")
    assert digits.fingerprint == load(data_dir).fingerprint
    fewer = load(data_dir, train_per_class=3, max_samples=20)
    assert [s.num_examples for s in fewer.splits.values()] == [20, 20, 20]
    assert fewer.fingerprint != digits.fingerprint


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": "trian"}, r"dataset.splits.train .*trian.*Did you mean train"),
        ({"train": "train[5:2]"}, r"dataset.splits.train must have at least one example"),
        ({"train": "train[:0]"}, r"dataset.splits.train must have at least one example"),
    ],
)
def test_wrong_splits_are_named(data_dir, splits, message):
    with pytest.raises(ConfigError, match=message):
        load(data_dir, splits=splits)


def test_unknown_name(data_dir):
    with pytest.raises(ConfigError, match="dataset.name .*minst.*Did you mean mnist"):
        load(data_dir, name="minst")


def test_not_a_classification_dataset(data_dir):
    with pytest.raises(ConfigError, match="dataset.name must be a classification dataset .*coco"):
        load(data_dir, name="coco")


def test_no_network_is_said_at_once(data_dir, monkeypatch):
    monkeypatch.setattr(preparing, "reachable", lambda url: False)
    with pytest.raises(ConfigError, match="dataset.name .*mnist.*dataset.data_dir"):
        load(data_dir, name="mnist")


def test_closed_port_is_not_reachable():
    start = time.monotonic()
    assert not preparing.reachable("http://127.0.0.1:9", timeout_seconds=1)
    assert time.monotonic() - start < 3


def test_too_large_for_memory(data_dir, monkeypatch):
    free = type("Memory", (), {"available": 2000})
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match="dataset.max_samples"):
        load(data_dir)

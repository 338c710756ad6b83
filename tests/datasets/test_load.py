"""One way in for every source."""

import sys
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

from finetune.config.schema import ColumnsConfig, DatasetConfig, SplitsConfig
from finetune.datasets import load as sources
from finetune.datasets.assemble import object_array
from finetune.datasets.dataset import Split, row_digests
from finetune.datasets.load import load_dataset
from finetune.errors import ConfigError


def test_a_folder(tmp_path):
    for row in range(20):
        path = tmp_path / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(np.full((2, 2, 3), row, np.uint8)).numpy())
    given = DatasetConfig(name="image_folder", path=str(tmp_path), max_samples=4, train_per_class=3)
    dataset = load_dataset(given, 1)
    assert [split.num_examples for split in dataset.splits.values()] == [4, 2, 2]
    assert dataset.fingerprint == load_dataset(given, 1).fingerprint
    assert dataset.fingerprint != load_dataset(given, 2).fingerprint


def test_a_table(tmp_path):
    rows = "".join(f"word {row},{'x' * (row % 2)}|y\n" for row in range(20))
    (tmp_path / "all.csv").write_text("body,tags\n" + rows)
    given = DatasetConfig(
        name="table", path=str(tmp_path / "all.csv"), label_separator="|",
        columns=ColumnsConfig(input="body", label="tags"), max_samples=3,
    )  # fmt: skip
    dataset = load_dataset(given, 0)
    assert dataset.multi_label and dataset.classes == ("x", "y")
    assert [split.num_examples for split in dataset.splits.values()] == [3, 2, 2]


def test_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 2, 2), np.uint8), y=np.arange(20) % 2)
    given = DatasetConfig(name="arrays", path=str(tmp_path / "a.npz"), train_per_class=2)
    dataset = load_dataset(given, 0)
    assert [split.num_examples for split in dataset.splits.values()] == [4, 2, 2]


def test_a_bundled_set_and_its_features(tmp_path):
    splits = SplitsConfig(train="train[:40]", validation="validation[:10]", test="test[:10]")
    given = DatasetConfig(name="digits", data_dir=str(tmp_path), splits=splits)
    dataset = load_dataset(given, 0)
    assert [split.num_examples for split in dataset.splits.values()] == [40, 10, 10]
    given.columns.input = "picture"
    with pytest.raises(ConfigError, match="columns.input must be an image or text feature of dig"):
        load_dataset(given, 0)
    given = DatasetConfig(name="digts", data_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="dataset.name .*digts.*Did you mean digits"):
        load_dataset(given, 0)


@pytest.mark.parametrize("name", ["image_folder", "table", "arrays"])
def test_files_need_a_path(name):
    with pytest.raises(ConfigError, match=f"dataset.path must be the files of dataset {name}"):
        load_dataset(DatasetConfig(name=name), 0)


def test_files_do_without_tfds():
    assert "finetune.datasets.sources.tfds" not in vars(sources)
    modules = [
        value.__name__
        for value in vars(sys.modules["finetune.datasets.load"]).values()
        if isinstance(value, ModuleType)
    ]
    assert "finetune.config.plugins" in modules
    assert not any(name.startswith("tensorflow") for name in modules)


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: object_array([bytes([row]) * (5 if row % 2 else 40_000) for row in rows]),
        lambda rows: object_array([f"text {row}" for row in rows]),
        lambda rows: np.asarray(rows, "float32")[:, None, None] * np.ones((1, 90, 90), "float32"),
        lambda rows: {"a": np.zeros((len(rows), 3)), "b": np.asarray(rows)},
        lambda rows: np.asarray([[f"text {row}"] for row in rows], object),
    ],
)
def test_digests_are_of_content_alone(make):
    one, other = ([3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5])
    first, second = (
        row_digests(Split(name, make(rows), np.zeros(len(rows)))).tolist()
        for name, rows in (("train", one), ("test", other))
    )
    by_row = dict(zip(one, first, strict=True))
    assert len(by_row.values()) == len(set(by_row.values())) == 5  # and equal rows have the same
    assert [digest in first for digest in second] == [row in one for row in other]


def test_one_changed_byte_of_a_long_example_changes_its_digest():
    data = bytearray(100_000)
    whole = row_digests(Split("train", object_array([bytes(data)]), np.zeros(1)))
    data[30_000] = 1  # between the pieces that are digested
    assert row_digests(Split("train", object_array([bytes(data)]), np.zeros(1))) != whole

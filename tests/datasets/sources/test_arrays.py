"""Arrays in a .npz file: what is taken, and what is refused."""

import zipfile

import numpy as np
import pytest

from finetune.config.schema import DatasetConfig
from finetune.datasets import memory
from finetune.datasets.measured import load_measured
from finetune.datasets.notices import notices
from finetune.datasets.sources.arrays import load_arrays
from finetune.errors import ConfigError

X = np.arange(40 * 6, dtype=np.uint8).reshape(40, 2, 3)
Y = np.arange(40) % 2


def save(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


def load(path, **more):
    return load_arrays(path, **{"seed": 0, **more})


def sizes(dataset):
    return [split.num_examples for split in dataset.splits.values()]


def test_x_and_y_are_split(tmp_path):
    dataset = load(save(tmp_path, x=X, y=Y))
    assert dataset.kind == "image" and dataset.classes == ("0", "1")
    assert sizes(dataset) == [32, 4, 4]
    train = dataset.splits["train"]
    assert train.examples.shape == (32, 2, 3, 1) and train.examples.dtype == np.uint8
    assert train.labels.dtype == np.int64
    (tmp_path / "other").mkdir()
    assert load(save(tmp_path / "other", x=X, y=Y)).fingerprint == dataset.fingerprint
    assert load(save(tmp_path, x=X + np.uint8(1), y=Y)).fingerprint != dataset.fingerprint
    assert sizes(load(save(tmp_path, x=X, y=Y), max_samples=3, train_per_class=2)) == [3, 3, 3]


def test_splits_are_taken_as_they_are_and_a_missing_one_is_held_out(tmp_path):
    path = save(tmp_path, x_train=X, y_train=Y[:, None], x_val=X[:6], y_val=Y[:6])
    assert sizes(load(path)) == [36, 6, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_of_0_to_255(tmp_path, channels):
    x = np.linspace(0, 255, 40 * 4 * channels).reshape(40, 2, 2, channels)
    examples = load(save(tmp_path, x=x, y=Y)).splits["train"].examples
    assert examples.dtype == np.float32 and examples.shape[1:] == (2, 2, channels)


def test_names_and_classes(tmp_path):
    names = np.asarray(["dog", "cat"])
    dataset = load(save(tmp_path, x=X, y=names[Y]))
    assert dataset.classes == ("cat", "dog")
    dataset = load(save(tmp_path, x=X, y=names[Y], classes=np.asarray(["dog", "cat", "eel"])))
    assert dataset.classes == ("dog", "cat", "eel")
    assert load(save(tmp_path, x=X, y=Y, classes=names)).classes == ("dog", "cat")


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_images_and_texts_with_one_label_and_several(tmp_path, kind, several):
    x = X if kind == "image" else np.asarray([f"text {row}" for row in range(40)])
    y = np.stack([Y, 1 - Y, Y], axis=1) if several else Y
    dataset = load(save(tmp_path, x=x, y=y))
    assert (dataset.kind, dataset.multi_label) == (kind, several)
    train, classes = dataset.splits["train"], ("0", "1", "2")
    if several:
        assert dataset.classes == classes and train.labels.shape == (32, 3)
        assert train.labels.dtype == np.uint8
        assert set(train.labels.sum(axis=1)) == {1, 2}
    else:
        assert dataset.classes == classes[:2]
    if kind == "text":
        rows = [int(text.split()[1]) for text in train.examples]
        assert (y[rows] == train.labels).all()


def test_rows_with_one_1_are_one_label_and_said_to_be(tmp_path):
    hot = np.eye(3)[np.arange(40) % 3]
    dataset = load(save(tmp_path, x=X, y=hot))
    indices = load(save(tmp_path, x=X, y=np.arange(40) % 3))
    assert not dataset.multi_label and dataset.fingerprint == indices.fingerprint
    (note,) = dataset.notes
    assert "labels of y are one-hot: every row has one 1, so each example has one label" in note
    assert indices.notes == ()
    assert f"warning: {note}" in list(notices(dataset, "tiny", None))
    # A single row of another split with two labels makes them several in all splits.
    test = np.ones((1, 3))
    several = load(save(tmp_path, x_train=X, y_train=hot, x_test=X[:1] + 1, y_test=test))
    assert several.multi_label and several.notes == ()


def test_a_split_alone_is_measured_whatever_its_labels_look_like(tmp_path):
    hot = np.eye(2, dtype=int)[Y]
    for y in (hot, Y):
        given = DatasetConfig(name="arrays", path=save(tmp_path, x=X, y=y))
        one = load_measured(given, 0, ["0", "1"], False, None, True)
        several = load_measured(given, 0, ["1", "0"], True, None, True)
        assert (one.examples.labels == Y).all()
        assert (several.examples.labels == hot[:, ::-1]).all()
        assert any("one-hot" in line for line in one.notices) == (y is hot)
        assert not any("one-hot" in line for line in several.notices)


BAD = {
    "objects": ({"x": np.asarray([["a"], [1]], object), "y": Y}, "x is an array of Python objects"),
    "length": ({"x": X, "y": Y[:-1]}, r"x and y must have the same length.*\(39,\)"),
    "range": ({"x": X, "y": Y, "classes": np.asarray(["a"])}, r"y must be class indices in 0\.\.0.*rows 1, 3, "),
    "negative": ({"x": X, "y": Y - 1}, r"y must be class indices in 0\.\.0.*rows 0, 2, "),
    "nan": ({"x": np.where(X == 7, np.nan, X), "y": Y}, r"images in 0\.\.255.*nan"),
    "scaled": ({"x": X / 255, "y": Y}, "Multiply them by 255"),
    "high": ({"x": X.astype(int) * 2, "y": Y}, r"in 0\.\.255. Received: values 0\.\.478"),
    "low": ({"x": X.astype(int) - 1, "y": Y}, r"Received: values -1\.\."),
    "shape": ({"x": X.reshape(40, 6), "y": Y}, r"x must be images.*shape \(40, 6\)"),
    "channels": ({"x": np.zeros((40, 2, 2, 4)), "y": Y}, r"x must be images.*\(40, 2, 2, 4\)"),
    "float labels": ({"x": X, "y": Y + 0.5}, "y must be class indices.*float64"),
    "not hot": ({"x": X, "y": np.stack([Y, Y * 2], 1)}, r"y must be 0 or 1.*rows 1, 3"),
    "one class": ({"x": X, "y": Y * 0}, "at least 2 classes"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "where train is empty"),
    "text": ({"x": np.asarray(["a", " "] * 20), "y": Y}, r"20 without a text \(x:2, x:4, "),
    "unknown": ({"x": X, "y": Y, "x_extra": X}, "Received: x_extra.*Did you mean x_train"),
    "no y": ({"x": X}, "both x and y. Received: .* with only x"),
    "no train": ({"x_test": X, "y_test": Y}, "without x_train and y_train"),
    "twice": ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "one x and one y for train"),
    "kinds": ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, "one kind and shape"),
    "new name": (
        {"x": X, "y": Y.astype(str), "x_test": X, "y_test": (Y + 1).astype(str)},
        r"y_test \(rows 2, 4, .*Received: 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(tmp_path, case):
    arrays, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        load(save(tmp_path, **arrays))


def test_not_a_npz_file(tmp_path):
    with pytest.raises(ConfigError, match="which does not exist"):
        load(str(tmp_path / "nowhere.npz"))
    with pytest.raises(ConfigError, match="which is a directory"):
        load(str(tmp_path))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("x", "no array")
    with pytest.raises(ConfigError, match=r"must be a .npz file of arrays.*x is not an array"):
        load(str(tmp_path / "other.npz"))
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ConfigError, match="must be a .npz file"):
        load(str(tmp_path / "x.npy"))


def test_more_than_memory(tmp_path, monkeypatch):
    free = type("Memory", (), {"available": 400})
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match="arrays that fit into half of the free memory"):
        load(save(tmp_path, x=X, y=Y))


def test_numbers_of_classes_without_gaps(tmp_path):
    x = np.zeros((3, 4, 4), "uint8")
    np.savez(tmp_path / "gap.npz", x_train=x, y_train=np.array([0, 2**63, 5], "uint64"))
    with pytest.raises(ConfigError, match=r"classes 0..2.*3 numbers from 0 to 9223372036854775808"):
        load_arrays(str(tmp_path / "gap.npz"), seed=0)


def test_rows_without_a_text_are_left_out(tmp_path):
    x = np.asarray([f"text {row}" for row in range(40)])
    x[[3, 30]] = " "
    path = save(tmp_path, x=x, y=np.arange(40) % 2)
    with pytest.raises(ConfigError, match=r"2 unusable ones: 2 without a text \(x:4, x:31\)"):
        load(path)
    dataset = load(path, skip=True)
    assert [(sample.source, sample.split) for sample in dataset.skipped] == [
        ("x:4", "train"), ("x:31", "train"),
    ]  # fmt: skip
    assert sum(split.num_examples for split in dataset.splits.values()) == 38

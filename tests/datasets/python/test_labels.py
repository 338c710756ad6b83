"""What labels of Python are taken to be."""

import re

import numpy as np
import pytest

from finetune.datasets.python.labels import read_labels
from finetune.errors import ConfigError

CLASSES = ("a", "b", "c")
INDICES = np.array([0, 2, 1])


@pytest.mark.parametrize(
    "given",
    [
        INDICES, INDICES.tolist(), INDICES.astype("float32"), INDICES[:, None], INDICES.astype(object),
        INDICES.astype("uint8"), ["a", "c", "b"], np.array([b"a", b"c", b"b"]), np.array([["a"], ["c"], ["b"]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid"])
def test_one_label_an_example(given, activation):
    labels = read_labels({"train": given}, CLASSES, activation)["train"]
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, INDICES)


def test_one_hot_rows_are_one_label_unless_the_model_says_several(caplog):
    for rows in (np.eye(3)[INDICES], np.eye(3, dtype=int)[INDICES].tolist()):
        for activation in ("linear", "softmax"):
            labels = read_labels({"train": rows, "test": rows}, CLASSES, activation)
            np.testing.assert_array_equal(labels["test"], INDICES)
        several = read_labels({"train": rows}, CLASSES, "sigmoid")["train"]
        np.testing.assert_array_equal(several, np.eye(3)[INDICES])
    assert caplog.text.count("labels are one-hot") == 2  # a softmax leaves no doubt
    mixed = read_labels({"train": np.eye(3), "test": np.ones((2, 3))}, CLASSES, "linear")
    assert mixed["train"].shape == (3, 3)  # where one split has several, all have


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_one_split_may_have_indices_and_another_one_hot_rows(caplog, activation):
    given = {"train": np.eye(3)[INDICES], "validation": INDICES}
    for labels in read_labels(given, CLASSES, activation).values():
        np.testing.assert_array_equal(labels, INDICES)
    assert not caplog.text  # the indices say that each example has one label
    with pytest.raises(ConfigError, match="one kind in all splits"):
        read_labels(given, CLASSES, "sigmoid")


REFUSED = [
    ([0.5, 1, 2], "from 0.5 to 2.0. Row 0 is 0.5, which is not a class index"),
    ([0, 1, float("nan")], "NaN or infinity in row 2. Remove the rows"),
    ([1, 2, 3], "from 1 to 3. Number the classes from 0"),
    ([-1, 1, 1], "from -1 to 1. Number the classes from 0"),
    ([[0.2, 0.3, 0.5]], "class probabilities. Pass the class of each row: labels.argmax"),
    (np.eye(5), "The labels have 5 columns: build the model"),
    ([[0, 1, 2]], "must have labels 0..2, shape (n,)"),
    (np.zeros((2, 3, 4)), "shape (n,)"),
    ([[0], [1, 2]], "one array of labels, with one row per example. Received: list"),
    ({"x": [1]}, "one array of labels, with one row per example. Received: dict"),
    (3, "one array of labels"),
    (["a", "d"], "Received: d"),
    (np.array(["2020-01-01"], "datetime64[D]"), "Received: datetime64[D] (1,)"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_other_labels_are_refused_by_name(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_labels({"train": given}, CLASSES, "linear")


def test_all_splits_are_looked_at():
    with pytest.raises(ConfigError) as caught:
        read_labels({"train": [0.5], "validation": [9], "test": [1]}, CLASSES, "linear")
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "train",
        "validation",
    ]
    with pytest.raises(ConfigError, match="one kind in all splits. Received: train one label"):
        read_labels({"train": [1], "test": [[1, 1, 0]]}, CLASSES, "linear")

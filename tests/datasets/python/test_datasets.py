"""Datasets of Python are read to their end as arrays, or refused by name."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets.python.data import read_splits
from finetune.errors import ConfigError

L, D = keras.layers, tf.data.Dataset
CLASSES = ("a", "b", "c")
X = np.random.default_rng(0).normal(size=(10, 6)).astype("float32")
Y = np.arange(10) % 3


def dense(shape=(6,), activation=None):
    inputs = keras.Input(shape)
    return keras.Model(inputs, L.Dense(3, activation)(L.Flatten()(inputs)))


def tokens(mask_zero):
    inputs = keras.Input((None,), dtype="int32")
    x = L.LSTM(4)(L.Embedding(30, 4, mask_zero=mask_zero)(inputs))
    return keras.Model(inputs, L.Dense(3)(x))


def read(data, model=None):
    model = dense() if model is None else model
    return read_splits(model, CLASSES, {"train": data})["train"]


def hidden(x, y):
    """Hides the shapes of an example, as `tf.numpy_function` does."""

    def same(left, right):
        return left, right

    return tf.numpy_function(same, [x, y], [tf.float32, tf.int64])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[3 * index : 3 * index + 3], Y[3 * index : 3 * index + 3]


def generated(examples, inputs, labels):
    examples = list(examples)
    return D.from_generator(lambda: iter(examples), output_signature=(inputs, labels))


PAIRS = D.from_tensor_slices((X, Y))
SIGNATURE = tf.TensorSpec((6,), tf.float32), tf.TensorSpec((), tf.int64)
SAME = {
    "arrays": (X, Y),
    "batches": PAIRS.batch(4),
    "single examples": PAIRS,
    "shapes unknown": PAIRS.map(hidden),
    "batches of unknown shape": PAIRS.batch(4).map(hidden),
    "one batch": PAIRS.batch(100),
    "batches of one": PAIRS.batch(1),
    "of unknown length": PAIRS.filter(lambda x, y: True),
    "a generator": generated(zip(X, Y, strict=True), *SIGNATURE),
    "labels of shape (1,)": D.from_tensor_slices((X, Y[:, None])),
    "batches of labels of shape (1,)": D.from_tensor_slices((X, Y[:, None])).batch(4),
    "padded to one width": PAIRS.padded_batch(4),
    "ragged rows of one length": (tf.ragged.constant(X.tolist()), Y),
    "sparse rows": (tf.sparse.from_dense(X), Y),
    "sparse examples": D.from_tensor_slices((tf.sparse.from_dense(X), Y)),
    "PyDataset": Batches(),
    "tensors": (tf.constant(X), tf.constant(Y)),
    "one-hot": (X, np.eye(3, dtype="float32")[Y]),
    "one-hot examples": D.from_tensor_slices((X, np.eye(3)[Y])),
    "names": D.from_tensor_slices((X, np.array(CLASSES)[Y])),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME)
def test_the_same_examples_in_any_form(data):
    split = read(data)
    np.testing.assert_allclose(split.examples, X, rtol=1e-6)
    np.testing.assert_array_equal(split.labels, Y)


def test_several_labels_in_any_form():
    labels = (X[:, :3] > 0).astype("int64")
    for data in (D.from_tensor_slices((X, labels)), D.from_tensor_slices((X, labels)).batch(3)):
        np.testing.assert_array_equal(read(data).labels, labels)


def test_inputs_of_several_kinds():
    left, right = keras.Input((6,), name="left"), keras.Input((1,), name="right")
    model = keras.Model({"left": left, "right": right}, L.Dense(3)(L.Concatenate()([left, right])))
    given = {"left": X, "right": X[:, :1]}
    for data in (D.from_tensor_slices((given, Y)), D.from_tensor_slices((given, Y)).batch(4)):
        split = read(data, model)
        np.testing.assert_array_equal(split.examples["right"], X[:, :1])


ROWS = [np.arange(1, 2 + n % 4) for n in range(10)]
PADDED = np.zeros((10, 4), "int32")
for number, row in enumerate(ROWS):
    PADDED[number, : len(row)] = row
LENGTHS = generated(
    zip(ROWS, Y, strict=True), tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int64)
)
UNEVEN = {
    "padded batches": LENGTHS.padded_batch(2),
    "examples": LENGTHS,
    "ragged batches": LENGTHS.ragged_batch(3),
    "a ragged tensor": (tf.ragged.constant([row.tolist() for row in ROWS]), Y),
    "a list": ([row.tolist() for row in ROWS], Y),
    "an array of objects": (np.array([*ROWS, None], object)[:10], Y),
}


@pytest.mark.parametrize("data", UNEVEN.values(), ids=UNEVEN)
def test_rows_of_different_lengths_are_padded_where_zeros_are_padding(data):
    split = read(data, tokens(mask_zero=True))
    np.testing.assert_array_equal(split.examples, PADDED)
    with pytest.raises(
        ConfigError, match="must have examples of one length. Received: lengths from 1 to 4"
    ):
        read(LENGTHS if data is UNEVEN["padded batches"] else data, tokens(mask_zero=False))


def test_zeros_are_padding_inside_of_a_model_too():
    inputs = keras.Input((None, 2))
    inner = keras.Sequential([keras.Input((None, 2)), L.Masking(), L.LSTM(3)])
    model = keras.Model(inputs, L.Dense(3)(inner(inputs)))
    rows = [np.ones((1 + n % 3, 2)).tolist() for n in range(10)]
    assert read((rows, Y), model).examples.shape == (10, 3, 2)
    both = keras.Model(
        inputs, L.Dense(3)(inner(inputs) + L.GlobalMaxPooling1D()(L.Dense(3)(inputs)))
    )
    with pytest.raises(ConfigError, match="of one length"):  # not all of it leaves zeros out
        read((rows, Y), both)


class Endless(Batches):
    num_batches = None


class Weighted(Batches):
    def __getitem__(self, index):
        return X, Y, Y


def failing():
    yield X[0], 1
    raise OSError("the disk is gone")


REFUSED = [
    (PAIRS.repeat(), "must be finite, because it is read into memory once. Received: an infinite tf.data"),
    (LENGTHS.repeat(), "train must be finite"),
    (Endless(), "an infinite PyDataset"),
    (D.from_tensor_slices((X, Y, Y)), "3 values. Sample weights are not supported"),
    (Weighted(), "3 values. Sample weights are not supported"),
    ((X, Y, Y), "3 values. Sample weights are not supported"),
    (D.from_tensor_slices(X), "elements (inputs, labels)"),
    (D.from_tensor_slices((X, {"one": Y})), "one array of labels"),
    (iter([(X, Y)]), "which may never end. Join its batches"),
    ([X, Y], "a tuple (inputs, labels), or a tf.data.Dataset"),
    (None, "Received: NoneType. Pass train=(x, y)"),
    (PAIRS.take(0), "an empty dataset"),
    (D.from_generator(failing, output_signature=SIGNATURE), "Received: OSError: the disk is gone. Fix"),
    (D.from_tensor_slices((X[:, :4], Y)), "must be numbers of shape ('n', 6)"),
    (generated([(X[0], 0), (X[1, :4], 1)], tf.TensorSpec((None,), tf.float32), SIGNATURE[1]), "one length"),
    (generated([(X[0], 0), (X[:2], 1)], tf.TensorSpec(None, tf.float32), SIGNATURE[1]), "as many inputs as labels"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_read_is_refused_by_name(data, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(data)


def test_a_dataset_larger_than_memory_is_refused(monkeypatch):
    monkeypatch.setattr("finetune.datasets.python.datasets.memory_budget", lambda: 100)
    endless = D.from_generator(lambda: iter(lambda: (X[0], 1), None), output_signature=SIGNATURE)
    with pytest.raises(
        ConfigError, match=r"half of the free memory.*by example \d+\. Limit it with take"
    ):
        read(endless)


def test_reading_for_long_says_so(monkeypatch, caplog):
    monkeypatch.setattr("finetune.datasets.python.datasets._NOTICE_SECONDS", -1)
    read(PAIRS.batch(4))
    assert "reading train into memory: 4 examples so far" in caplog.text

"""Arrays of any kind of numbers become what the model takes, or are refused by name."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets.python.data import fitting_inputs, input_dtypes, read_split
from finetune.datasets.readers import ArrayReader
from finetune.errors import ConfigError

ROWS = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def takes(dtype, shape=(3,)):
    """Returns a model of one input."""
    inputs = keras.Input(shape, dtype=dtype)
    outputs = inputs if dtype == "string" else keras.ops.cast(inputs, "float32")
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize(
    "given",
    [
        ROWS, [tuple(row) for row in ROWS], np.array(ROWS), np.array(ROWS, np.float16),
        np.array(ROWS, np.int64), np.array(ROWS, np.uint8), np.array(ROWS, object),
        np.array([*map(np.array, ROWS), None], object)[:2], tf.constant(ROWS),
        tf.constant(ROWS, tf.bfloat16),
    ],
)  # fmt: skip
def test_numbers_of_any_kind_are_read_as_the_model_takes_them(given, dtype):
    model = takes(dtype)
    split = read_split("train", (given, [0, 1]), model, ["x", "y", "z"], False)
    reader = ArrayReader(input_dtypes(model))
    (batch,) = reader.open(split, 4)(tf.data.Dataset.range(2), None)
    assert batch.dtype == dtype
    np.testing.assert_array_equal(batch, np.array(ROWS, dtype))


def test_images_of_uint8_are_not_held_as_floats():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert fitting_inputs("train", images, takes("float32", (4, 4, 3))).dtype == np.uint8
    assert fitting_inputs("train", images * 1.0, takes("float32", (4, 4, 3))).dtype == np.float32


def test_each_input_has_its_own_dtype():
    number, code = keras.Input((3,), name="number"), keras.Input((3,), dtype="int32", name="code")
    joined = keras.layers.Concatenate()([number, keras.ops.cast(code, "float32")])
    for form, given in (
        ({"number": number, "code": code}, {"number": np.array(ROWS), "code": np.array(ROWS)}),
        ([number, code], (np.array(ROWS), np.array(ROWS))),
    ):
        model = keras.Model(form, joined)
        read = fitting_inputs("train", given, model)
        assert keras.tree.map_structure(lambda array: str(array.dtype), read) == input_dtypes(model)


def test_a_list_of_one_row_is_one_row():
    assert fitting_inputs("train", [ROWS[0]], takes("float32")).shape == (1, 3)
    assert fitting_inputs("train", [np.array(ROWS)], takes("float32")).shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "dtype", "message"),
    [
        ([[0.5, 1, 2]], "int32", "to 2147483647, because the model takes int32. Received: float64 from 0.5 to 2.0"),
        ([[0, 1, 300]], "uint8", "from 0 to 255, because the model takes uint8. Received: int64 from 0 to 300"),
        ([[0, 1, 2]], "bool", "must be whole numbers from 0 to 1"),
        ([[0, 1, 1e300]], "float32", "first in row 0. Scale them: the model takes float32, which cannot"),
        ([[0, 1, 1e6]], "float16", "Scale them: the model takes float16, which cannot represent them"),
        ([[0, 1, None]], "float32", "must be numbers of shape ('n', 3), as the model takes them. Received: object"),
        ([[0, 1, float("nan")]], "float32", "must be finite numbers"),
        ([[0, 1], [2]], "float32", "must be numbers of shape ('n', 3)"),
    ],
)  # fmt: skip
def test_numbers_that_the_model_cannot_take_are_refused(given, dtype, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        fitting_inputs("train", given, takes(dtype))


def test_texts_of_bytes_become_str_and_other_bytes_stay():
    model = takes("string", ())
    for given in (np.array([b"a", "\u00e9".encode()]), np.array([b"a", "\u00e9"], object)):
        assert fitting_inputs("train", given, model).tolist() == ["a", "\u00e9"]
    encoded = np.array([b"\xff\xd8", b"a"], object)
    assert fitting_inputs("train", encoded, model).tolist() == encoded.tolist()

"""Thumbnails of images and the start of texts."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from finetune.datasets.dataset import Split
from finetune.evaluation.previews import illustrated, text_of, thumbnail
from finetune.record.schema import Mistake


def split_of(examples, **given):
    return Split("test", examples, np.zeros(len(examples), np.int64), **given)


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def seen(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_an_encoded_image_is_decoded_and_scaled_down():
    pixels = np.zeros((20, 200, 3), np.uint8)
    pixels[:, :100] = (255, 0, 0)
    split = split_of(objects(tf.io.encode_png(pixels).numpy()), ways=np.array([3], np.int32))
    shown = seen(thumbnail(split, 0))  # orientation 3: upside down, so red is on the right
    assert shown.shape == (10, 96, 3)
    assert shown[5, 10].tolist() == [0, 0, 0] and shown[5, 90].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (np.full((1, 4, 1, 1), 7, np.uint8), 7),
        (np.full((1, 1, 4, 3), 200.0), 200),
        (np.linspace(-1, 1, 16, dtype="float32").reshape(1, 4, 4, 1), 0),  # spread to 0..255
        (np.zeros((1, 4, 4, 3), "float32"), 0),
    ],
)
def test_arrays_in_the_shape_of_an_image_get_a_thumbnail(examples, expected):
    shown = seen(thumbnail(split_of(examples), 0))
    assert shown.shape[:2] == examples.shape[1:3]
    assert shown.ravel()[0] == expected


@pytest.mark.parametrize(
    "examples",
    [
        np.zeros((1, 9)),
        np.zeros((1, 4, 4, 7)),
        np.full((1, 4, 4, 1), np.nan),
        {"a": np.zeros((1, 4, 4, 1))},
    ],
)
def test_other_arrays_get_no_thumbnail(examples):
    split = Split("test", examples, np.zeros(1, np.int64))
    assert thumbnail(split, 0) is None and text_of(split, 0) is None


def test_a_long_text_is_cut():
    split = split_of(objects("short", "long " * 100))
    assert text_of(split, 0) == "short"
    assert len(text_of(split, 1)) == 300 and text_of(split, 1).endswith("…")
    assert thumbnail(split, 0) is None


def test_mistakes_get_their_source_and_files(tmp_path):
    split = split_of(np.zeros((3, 4, 4, 3), np.uint8), sources=objects("a.png", "b.png", "c.png"))
    (shown,) = illustrated([Mistake("row 3", "x", "y", 0.9)], [2], split, tmp_path)
    assert shown == Mistake("c.png", "x", "y", 0.9, image="plots/mistakes/00.png")
    assert seen((tmp_path / shown.image).read_bytes()).shape == (4, 4, 3)
    assert illustrated([], [], split, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_bytes_that_are_not_an_image_get_no_thumbnail():
    examples = np.empty(1, object)
    examples[:] = [b"\xff\xfe no image"]
    assert thumbnail(split_of(examples), 0) is None

"""Samples of the training split in the record: class counts and the inputs of the model."""

import io

import numpy as np
import pytest
from PIL import Image

from finetune.datasets.dataset import Split
from finetune.datasets.images.augmentation import Augmentation, Mix
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader, ImageReader, TextReader
from finetune.evaluation.samples import (
    LONGER_SIDE,
    TOKENS,
    chosen_rows,
    class_counts,
    take_samples,
)

CLASSES = ("cat", "dog", "eel")


def split_of(examples, labels):
    return Split("train", examples, np.asarray(labels))


def images(number, size=8):
    pixels = np.arange(number, dtype=np.uint8)[:, None, None, None] * 20
    return np.broadcast_to(pixels, (number, size, size, 3)).copy()


def targets(labels):
    return np.eye(3, dtype="float32")[labels]


def test_all_classes_are_counted_even_those_without_examples():
    assert class_counts(split_of(images(4), [2, 0, 0, 2]), 3) == [2, 0, 2]
    multi_hot = np.array([[1, 1, 0], [0, 1, 0]], np.uint8)
    assert class_counts(split_of(images(2), multi_hot), 3) == [1, 2, 0]


def test_every_class_has_its_turn():
    labels = np.array([0] * 20 + [1] * 3 + [2])
    assert chosen_rows(labels).tolist() == [0, 1, 2, 3, 20, 21, 22, 23]
    assert chosen_rows(np.arange(30)).tolist() == list(range(8))
    assert chosen_rows(np.array([1, 0])).tolist() == [0, 1]


def test_images_keep_the_size_of_the_model_input(tmp_path):
    split = split_of(images(3), [0, 1, 2])
    reader = ImageReader((16, 12))
    cat, dog, _ = take_samples(Examples(split, reader, targets([0, 1, 2])), CLASSES, tmp_path)
    assert (cat.label, dog.label, cat.source) == ("cat", "dog", "train row 1")
    assert cat.image == "plots/samples/00.png" and cat.augmented is None
    with Image.open(tmp_path / dog.image) as picture:
        assert (picture.size, picture.format) == ((12, 16), "PNG")
        assert picture.getpixel((5, 5)) == (20, 20, 20)


def test_augmented_images_are_those_of_the_first_epoch(tmp_path):
    rng = np.random.default_rng(0)
    examples = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    split = split_of(examples, [0, 1, 2])
    reader = ImageReader((16, 16), augmentation=Augmentation("light", True, seed=1))
    found = take_samples(Examples(split, reader, targets([0, 1, 2])), CLASSES, tmp_path)
    import tensorflow as tf

    read = reader.open(split, 3, augmented=True)
    (batch,) = read(tf.data.Dataset.range(3), tf.constant(0, tf.int64))
    for sample, expected in zip(found, batch.numpy(), strict=True):
        with Image.open(tmp_path / sample.augmented) as picture:
            assert np.abs(np.asarray(picture) - expected).max() <= 0.5001
        assert sample.augmented_label is None


def test_a_mixed_image_names_the_shares_of_its_classes(tmp_path):
    split = split_of(images(3, 16), [0, 1, 2])
    reader = ImageReader((16, 16), mix=Mix("mixup", seed=0))
    found = take_samples(Examples(split, reader, targets([0, 1, 2])), CLASSES, tmp_path)
    shares = [sample.augmented_label for sample in found]
    assert all("%" in share for share in shares) and any(", " in share for share in shares)


def test_large_images_are_bounded_in_pixels_and_bytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 500, 400, 3), np.uint8)
    found = take_samples(
        Examples(split_of(noise, [0, 1]), ImageReader((500, 400)), targets([0, 1])),
        CLASSES,
        tmp_path,
    )
    content = (tmp_path / found[0].image).read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        assert max(picture.size) == LONGER_SIDE and picture.format == "JPEG"
    assert len(content) < 60_000


class Tokenizer:
    pad_token_id = 0

    def __call__(self, texts):
        return [text.split() for text in texts]

    def id_to_token(self, index):
        return f"t{index}"


class Preprocessor:
    """Packs [1, words…, 2] into eight places."""

    tokenizer = Tokenizer()

    def __init__(self, masked=True):
        self.masked = masked

    def __call__(self, texts):
        rows = [[1, *[5] * len(text.decode().split()[:6]), 2] for text in texts.numpy()]
        ids = np.array([row + [0] * (8 - len(row)) for row in rows])
        return {"token_ids": ids, **({"padding_mask": ids > 0} if self.masked else {})}


@pytest.mark.parametrize("masked", [True, False])
def test_texts_are_shown_as_tokens_with_the_point_where_they_are_cut(tmp_path, masked):
    texts = np.array(["one two", "w " * 100], object)
    split = split_of(texts, [0, 1])
    reader = TextReader(Preprocessor(masked), {"train": split})
    short, long = take_samples(Examples(split, reader, targets([0, 1])), CLASSES, tmp_path)
    assert short.tokens == ["t1", "t5", "t5", "t2"]
    assert (short.tokens_read, short.tokens_whole) == (4, 4)
    assert (long.tokens_read, long.tokens_whole) == (8, 102)
    assert short.text == "one two" and len(long.tokens) <= TOKENS
    assert not (tmp_path / "plots").exists()


def test_arrays_are_shown_if_they_are_images(tmp_path):
    reader = ArrayReader()
    found = take_samples(
        Examples(split_of(images(2), [0, 1]), reader, targets([0, 1])), CLASSES, tmp_path
    )
    assert [sample.image for sample in found] == ["plots/samples/00.png", "plots/samples/01.png"]
    table = Examples(split_of(np.zeros((2, 5)), [0, 1]), reader, targets([0, 1]))
    assert take_samples(table, CLASSES, tmp_path) == []
    multi_input = Examples(split_of({"a": np.zeros((2, 5))}, [0, 1]), reader, targets([0, 1]))
    assert take_samples(multi_input, CLASSES, tmp_path) == []

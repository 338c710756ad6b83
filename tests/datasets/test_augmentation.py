"""What an image becomes depends on the seed, the epoch and its row alone."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets import pipeline
from finetune.datasets.augmentation import Augmentation
from finetune.datasets.dataset import Split


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(0)
    images = np.empty(9, object)
    images[:] = [
        tf.io.encode_png(random.integers(0, 256, (12, 12, 3), dtype="uint8")).numpy()
        for _ in range(9)
    ]
    return Split("train", images, np.arange(9))


@pytest.fixture(scope="module")
def converter():
    return keras_hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 255, offset=-0.5)


def epochs(split, converter, augmentation, first, last, size=4):
    """Returns {(epoch, row): image}."""
    batches = pipeline.training_batches(
        split, batch_size=size, seed=0, first_epoch=first, last_epoch=last,
        image_size=(16, 16), prepare=converter, augmentation=augmentation,
    )  # fmt: skip
    found, seen = {}, 0
    for images, labels in batches:
        for image, label in zip(images.numpy(), labels.numpy(), strict=True):
            found[first + seen // 9, int(label)] = image
            seen += 1
    return found


def same(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_it_follows_from_seed_epoch_and_row(split, converter, strength):
    first = epochs(split, converter, Augmentation(strength, True, 0), 0, 3)
    assert len(first) == 27
    again = epochs(split, converter, Augmentation(strength, True, 0), 1, 3, size=9)
    assert all(np.array_equal(first[key], again[key]) for key in again)
    other = epochs(split, converter, Augmentation(strength, True, 1), 0, 3)
    assert not any(np.array_equal(first[key], other[key]) for key in first)
    assert not any(np.array_equal(first[0, row], first[1, row]) for row in range(9))
    assert min(each.min() for each in first.values()) >= -0.5  # scaled after it, not before
    assert max(each.max() for each in first.values()) <= 0.5


def test_a_view_is_the_epoch_of_its_number(split, converter, monkeypatch):
    augmentation = Augmentation("light", True, 0)
    trained = epochs(split, converter, augmentation, 2, 3)
    settings = {"image_size": (16, 16), "prepare": converter, "augmentation": augmentation}
    for held in (10**9, 0):  # decoded images in memory, and not
        monkeypatch.setattr(pipeline, "CACHE_BYTES", held)
        view = np.concatenate(list(pipeline.single_pass(split, batch_size=2, epoch=2, **settings)))
        for row in range(9):
            np.testing.assert_array_equal(view[row], trained[2, row])


def test_without_augmentation_a_pass_is_what_evaluation_sees(split, converter):
    settings = {"batch_size": 4, "image_size": (16, 16), "prepare": converter}
    kept = [images for images, _ in pipeline.evaluation_batches(split, **settings)]
    once = pipeline.single_pass(split, augmentation=None, epoch=0, **settings)
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(list(once)))


def test_flips_can_be_left_out():
    image = tf.reshape(tf.range(192, dtype=tf.float32), (8, 8, 3))

    def mirrored(flip):
        augmentation = Augmentation("light", flip, 0)
        augmentation._layers = augmentation._layers[3:]
        drawn = [augmentation(image, tf.constant(0, tf.int64), row) for row in range(20)]
        return sum(not np.array_equal(each, image) for each in drawn)

    assert mirrored(False) == 0
    assert 0 < mirrored(True) < 20

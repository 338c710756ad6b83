"""What an image becomes depends on the seed, the epoch and its row alone."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets import pipeline, readers
from finetune.datasets.dataset import Split
from finetune.datasets.images.augmentation import Augmentation, Mix
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader


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


def examples(split, converter, augmentation=None, mix=None):
    targets = split.labels if mix is None else np.eye(9, dtype="float32")
    return Examples(split, ImageReader((16, 16), converter, augmentation, mix), targets)


def epochs(split, converter, augmentation, first, last, size=4):
    """Returns {(epoch, row): image}."""
    given = examples(split, converter, augmentation)
    batches = pipeline.training_batches(
        given, batch_size=size, seed=0, first_epoch=first, last_epoch=last
    )
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
    assert min(image.min() for image in first.values()) >= -0.5  # scaled after it, not before
    assert max(image.max() for image in first.values()) <= 0.5


def test_a_view_is_the_epoch_of_its_number(split, converter, monkeypatch):
    augmentation = Augmentation("light", True, 0)
    trained = epochs(split, converter, augmentation, 2, 3)
    for held in (10**9, 0):  # decoded images in memory, and not
        monkeypatch.setattr(readers, "CACHE_BYTES", held)
        given = examples(split, converter, augmentation)
        view = np.concatenate(list(pipeline.single_pass(given, batch_size=2, view=2)))
        for row in range(9):
            np.testing.assert_array_equal(view[row], trained[2, row])


def test_without_augmentation_a_pass_is_what_evaluation_sees(split, converter):
    given = examples(split, converter)
    kept = [images for images, _ in pipeline.evaluation_batches(given, batch_size=4)]
    once = pipeline.single_pass(given, batch_size=4, view=None)
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(list(once)))


def test_flips_can_be_left_out():
    image = tf.reshape(tf.range(192, dtype=tf.float32), (8, 8, 3))

    def mirrored(flip):
        augmentation = Augmentation("light", flip, 0)
        augmentation._layers = augmentation._layers[3:]
        drawn = [augmentation(image, tf.constant(0, tf.int64), row) for row in range(20)]
        return sum(not np.array_equal(augmented, image) for augmented in drawn)

    assert mirrored(False) == 0
    assert 0 < mirrored(True) < 20


def mixed(split, converter, name, seed, first=0, size=4):
    given = examples(split, converter, Augmentation("light", True, 0), Mix(name, seed))
    batches = pipeline.training_batches(
        given, batch_size=size, seed=0, first_epoch=first, last_epoch=2
    )  # fmt: skip
    return [(images.numpy(), targets.numpy()) for images, targets in batches]


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_follows_from_seed_and_epoch_and_keeps_shares(split, converter, name):
    first = mixed(split, converter, name, 0)
    again = mixed(split, converter, name, 0, first=1)
    assert [len(targets) for _, targets in first] == [4, 4, 1] * 2
    for left, right in zip(first[3:], again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    other = mixed(split, converter, name, 1)
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    targets = np.concatenate([targets for _, targets in first])
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    assert ((targets > 0).sum(1) == 2).any() and targets.dtype == np.float32


def test_mixed_images_are_mixed_as_their_targets(split):
    images = np.repeat(np.arange(6, dtype="float32") * 40, 12 * 12 * 3).reshape(6, 12, 12, 3)
    targets = np.eye(6, dtype="float32")
    zero = tf.constant(0, tf.int64)
    for name, tolerance in (("mixup", 1e-3), ("cutmix", 20)):  # a patch has whole pixels
        out, shares = Mix(name, 3)(images, targets, zero, tf.range(6, dtype=tf.int64))
        expected = shares.numpy() @ (np.arange(6) * 40)
        np.testing.assert_allclose(out.numpy().mean((1, 2, 3)), expected, atol=tolerance)


def test_validation_is_never_mixed(split, converter):
    plain = pipeline.evaluation_batches(examples(split, converter), batch_size=4)
    given = examples(split, converter, mix=Mix("cutmix", 0))
    for (left, _), (right, _) in zip(
        plain, pipeline.evaluation_batches(given, batch_size=4), strict=True
    ):
        np.testing.assert_array_equal(left, right)

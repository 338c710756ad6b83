import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets import pipeline, readers
from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader, ImageReader

SEED = 2**32 - 1


@pytest.fixture(params=[True, False], ids=["stored", "decoded"])
def split(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(readers, "CACHE_BYTES", 0)
    images = np.empty(7, object)
    images[:] = [tf.io.encode_png(np.full((2, 2, 1), i, np.uint8)).numpy() for i in range(7)]
    return Split("train", images, np.arange(7))


def examples(split, size=(4, 4), convert=None, weights=None):
    reader = ImageReader(size, convert)
    return Examples(split, reader, split.labels.astype("int32"), weights)


def epochs(split, first, last, seed=SEED):
    batches = pipeline.training_batches(
        examples(split), batch_size=3, seed=seed, first_epoch=first, last_epoch=last
    )
    assert batches.cardinality() == 3 * (last - first)
    found = [(images.numpy(), labels.numpy()) for images, labels in batches]
    assert [len(labels) for _, labels in found] == [3, 3, 1] * (last - first)
    for images, labels in found:
        assert images.shape[1:] == (4, 4, 3) and images.dtype == np.float32
        assert (images == labels[:, None, None, None]).all()
    return np.concatenate([labels for _, labels in found]).reshape(-1, 7).tolist()


def test_an_epoch_depends_on_seed_and_number_only(split):
    three = epochs(split, 0, 3)
    assert all(sorted(order) == list(range(7)) for order in three)
    assert three[0] != three[1] != three[2]
    assert three == epochs(split, 0, 3)
    assert three[2:] == epochs(split, 2, 3)
    assert three != epochs(split, 0, 3, seed=0)


def test_evaluation_keeps_the_order_and_prepares(split):
    converter = keras_hub.layers.ResNetImageConverter(image_size=(2, 2), scale=1.0, offset=1.0)
    given = examples(split, (2, 2), converter)
    batches = pipeline.evaluation_batches(given, batch_size=4)
    labels = np.concatenate([labels for _, labels in batches])
    images = np.concatenate([images for images, _ in batches])
    assert labels.tolist() == list(range(7)) and labels.dtype == np.int32
    assert (images == np.arange(1, 8)[:, None, None, None]).all()
    assert given.num_steps(4) == 2


def test_weights_go_with_their_rows_in_training_alone(split):
    given = examples(split, weights=np.arange(7, dtype="float32") / 7)
    batches = pipeline.training_batches(
        given, batch_size=3, seed=0, first_epoch=0, last_epoch=2
    )  # fmt: skip
    for _, labels, weights in batches:
        np.testing.assert_array_equal(weights, labels.numpy().astype("float32") / 7)
    assert len(pipeline.evaluation_batches(given, batch_size=3).element_spec) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_are_numbers_need_no_decoding(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, channels), dtype="uint8")
    split = Split("train", images, np.arange(5))
    (batch, _), = pipeline.evaluation_batches(examples(split), batch_size=5)  # fmt: skip
    np.testing.assert_array_equal(batch, np.broadcast_to(images, (5, 4, 4, 3)))
    (once,) = pipeline.single_pass(examples(split), batch_size=5, view=None)
    np.testing.assert_array_equal(once, batch)


def test_numbers_of_any_shape_are_handed_on():
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    given = Examples(Split("train", values, np.arange(5)), ArrayReader(), np.arange(5))
    (batch, labels), = pipeline.training_batches(
        given, batch_size=5, seed=0, first_epoch=0, last_epoch=1
    )  # fmt: skip
    np.testing.assert_array_equal(batch, values[labels])
    (once,) = pipeline.single_pass(given, batch_size=9, view=None)
    np.testing.assert_array_equal(once, values)

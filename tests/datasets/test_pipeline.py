import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets import pipeline
from finetune.datasets.dataset import Split

SEED = 2**32 - 1


@pytest.fixture(params=[True, False], ids=["stored", "decoded"])
def split(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(pipeline, "CACHE_BYTES", 0)
    images = np.empty(7, object)
    images[:] = [tf.io.encode_png(np.full((2, 2, 1), i, np.uint8)).numpy() for i in range(7)]
    return Split("train", images, np.arange(7))


def epochs(split, first, last, seed=SEED):
    batches = pipeline.training_batches(
        split, batch_size=3, seed=seed, first_epoch=first, last_epoch=last,
        image_size=(4, 4), prepare=None,
    )  # fmt: skip
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
    batches = pipeline.evaluation_batches(
        split, batch_size=4, image_size=(2, 2), prepare=lambda image: tf.cast(image, "float32") + 1
    )
    labels = np.concatenate([labels for _, labels in batches])
    images = np.concatenate([images for images, _ in batches])
    assert labels.tolist() == list(range(7)) and labels.dtype == np.int32
    assert (images == np.arange(1, 8)[:, None, None, None]).all()
    assert pipeline.num_steps(split, 4) == 2

"""Texts are tokenized once, and no longer than they are."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.backbones.families import FAMILIES
from finetune.datasets import pipeline
from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader, TextReader

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]


class Counting:
    """A preprocessor that counts how often it is traced or called."""

    def __init__(self, inner):
        self.inner, self.calls = inner, 0

    def __call__(self, texts):
        self.calls += 1
        return self.inner(texts)


def split(name, *texts):
    held = np.empty(len(texts), object)
    held[:] = texts
    return Split(name, held, np.arange(len(texts)))


@pytest.fixture
def preprocessor():
    tokenizer = keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True)
    return Counting(keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=32))


@pytest.fixture
def splits():
    return {
        "train": split("train", "a b c", "d", ""),
        "validation": split("validation", "a b c d a b c d a"),  # 11 tokens with [CLS] and [SEP]
        "test": split("test", "zebra"),
    }


def test_all_splits_are_tokenized_before_the_first_batch(preprocessor, splits):
    reader = TextReader(preprocessor, splits)
    assert preprocessor.calls == 0  # nothing is spent where stored features are read
    given = Examples(splits["train"], reader, splits["train"].labels)
    batches = pipeline.training_batches(given, batch_size=2, seed=0, first_epoch=0, last_epoch=2)
    calls = preprocessor.calls
    assert calls == 1
    pipeline.evaluation_batches(
        Examples(splits["test"], reader, splits["test"].labels), batch_size=2
    )
    seen = {}
    for tokens, labels in batches:
        assert set(tokens) == {"token_ids", "padding_mask", "segment_ids"}
        for row, label in zip(tokens["token_ids"].numpy(), labels.numpy(), strict=True):
            seen[int(label)] = row.tolist()
    assert preprocessor.calls == calls
    padding = [0] * 11
    assert seen == {
        0: [2, 5, 6, 7, 3, *padding], 1: [2, 8, 3, 0, 0, *padding], 2: [2, 3, 0, 0, 0, *padding],
    }  # fmt: skip


def test_a_pass_is_what_evaluation_sees(preprocessor, splits):
    reader = TextReader(preprocessor, splits)
    given = Examples(splits["test"], reader, splits["test"].labels)
    ((tokens, _),) = pipeline.evaluation_batches(given, batch_size=4)
    (once,) = pipeline.single_pass(given, batch_size=4, view=None)
    assert once.keys() == tokens.keys()
    for key in once:
        np.testing.assert_array_equal(once[key], tokens[key])
    assert once["token_ids"][0, :4].numpy().tolist() == [2, 1, 3, 0]  # an unknown word


def test_what_looks_at_padding_is_not_shortened(splits):
    def without_mask(texts):
        tokenizer = keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True)
        whole = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=32)
        return {"token_ids": whole(texts)["token_ids"]}

    given = Examples(splits["test"], TextReader(without_mask, splits), splits["test"].labels)
    assert pipeline.single_pass(given, batch_size=1, view=None).element_spec["token_ids"].shape == (
        (None, 32)
    )


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
@pytest.mark.parametrize("shape", [(11, 16), (17, 10), (8, 8), (3, 40), (64, 63)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"interpolation": "bicubic", "antialias": True},
        {"interpolation": "nearest"},
        {"crop_to_aspect_ratio": False},
        {"crop_to_aspect_ratio": False, "pad_to_aspect_ratio": True},
        {"scale": [0.1, 0.2, 0.3], "offset": [1.0, 2.0, 3.0]},
    ],
)
def test_an_image_is_what_its_converter_makes_of_it(shape, size, more):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype="uint8")
    settings = {"scale": 1 / 255, "offset": -0.5, **more}
    converter = keras_hub.layers.ResNetImageConverter(image_size=size, dtype="float32", **settings)
    held = np.empty(1, object)
    held[0] = tf.io.encode_png(image).numpy()
    given = Examples(Split("test", held, np.zeros(1)), ImageReader(size, converter), np.zeros(1))
    (once,) = pipeline.single_pass(given, batch_size=1, view=None)
    np.testing.assert_array_equal(once[0], tf.function(converter)(tf.constant(image)))


def test_no_family_has_a_converter_that_does_more_than_these():
    base = keras_hub.layers.ImageConverter
    for family in FAMILIES:
        if family.kind == "image":
            cls = family.image_converter
            assert {name for name in vars(cls) if "call" in name} == set(), cls
            assert issubclass(cls, base) and cls.get_config is base.get_config

"""KerasHub tasks with their preprocessor in FineTuner: raw data, as in their own fit."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import finetune
from finetune.backbones.own_preprocessing import preprocessed, preprocessor_of
from finetune.errors import ConfigError
from finetune.inference.examples import Example
from finetune.inference.predicting import Predictor
from tests.helpers.backbones import make_resnet
from tests.helpers.own_models import losses, tune

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "very"]


def images(number=16, size=20, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(number) % 2
    pixels = draw.integers(0, 120, (number, size, size, 3)) + 60 * labels[:, None, None, None]
    return pixels.astype("uint8"), labels


def image_task():
    keras.utils.set_random_seed(0)
    backbone = make_resnet()
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=backbone.image_shape[:2], scale=1 / 255
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone, num_classes=2,
        preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(converter),
    )  # fmt: skip


def texts(number=16):
    labels = np.arange(number) % 2
    return [
        f"a {'very ' * (i % 3)}{('bad', 'good')[label]} film" for i, label in enumerate(labels)
    ], labels


def text_task():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(WORDS), num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16,
        max_sequence_length=8,
    )  # fmt: skip
    tokenizer = keras_hub.models.BertTokenizer(WORDS, lowercase=True)
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=2,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8),
    )  # fmt: skip


@pytest.mark.parametrize(("make", "data"), [(image_task, images), (text_task, texts)])
def test_a_task_is_trained_on_raw_data_as_its_own_fit_does_it(tmp_path, make, data):
    found, (inputs, labels) = [], data()
    for cache in ("never", "always"):
        task = make()
        preprocessor = task.preprocessor
        record = tune(
            task, tmp_path / cache, cache, "head.standardise=never",
            train=(inputs, labels), validation=(inputs, labels), test=(inputs, labels),
        )  # fmt: skip
        assert task.preprocessor is preprocessor
        assert record.phases[0].features["cached"] == (cache == "always")
        found.append(losses(record))
        task.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=[])
        kept = task.evaluate(np.asarray(inputs), labels, batch_size=8, verbose=0)
        assert record.test["loss"] == pytest.approx(kept, rel=1e-4)
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    kind = (
        keras_hub.models.ImageClassifier if make is image_task else keras_hub.models.TextClassifier
    )
    loaded = kind.from_preset(str(tmp_path / "always/run-always/model"))
    assert type(loaded.preprocessor) is type(task.preprocessor)
    given = np.asarray(inputs)
    logits = task.predict(given, verbose=0)
    np.testing.assert_allclose(loaded.predict(given, verbose=0), logits, rtol=1e-4)
    run = finetune.load(tmp_path / "always/run-always")
    np.testing.assert_allclose(run.predict(inputs), keras.ops.softmax(logits), rtol=1e-4)
    assert run.evaluate(inputs, labels)["loss"] == pytest.approx(record.test["loss"], rel=1e-4)
    np.save(tmp_path / "given.npy", given)
    examples = [Example("given.npy", tmp_path / "given.npy")]
    rows = [
        prediction.probabilities
        for part in Predictor(run.trained, 8)(examples)
        for prediction in part
    ]
    np.testing.assert_allclose(rows, run.predict(inputs), rtol=1e-4)


def test_the_preprocessor_is_given_back_after_an_error_too(tmp_path):
    task = image_task()
    preprocessor = task.preprocessor
    with pytest.raises(ConfigError, match="must have labels"):
        tune(task, tmp_path, "never", train=images(), validation=(images()[0], images()[1] + 7))
    assert task.preprocessor is preprocessor


class Batches(keras.utils.PyDataset):
    def __init__(self, inputs, labels):
        super().__init__()
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.inputs) // 2

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        return self.inputs[rows], self.labels[rows]


def test_pairs_of_texts_and_datasets_pass_the_preprocessor():
    preprocessor = text_task().preprocessor
    inputs, labels = texts(4)
    whole = preprocessor(tf.constant(inputs))
    pairs = tf.data.Dataset.from_tensor_slices((inputs, labels))
    given = {
        "train": (inputs, labels), "validation": pairs, "test": pairs.batch(3),
        "second": ((inputs, inputs), labels), "sequence": Batches(inputs, labels),
    }  # fmt: skip
    made = preprocessed(given, preprocessor)
    np.testing.assert_array_equal(made["train"][0]["token_ids"], whole["token_ids"])
    single = [batch["token_ids"] for batch, _ in made["validation"].as_numpy_iterator()]
    np.testing.assert_array_equal(np.stack(single), whole["token_ids"])
    batched = [batch["token_ids"] for batch, _ in made["test"].as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(batched), whole["token_ids"])
    assert made["second"][0]["segment_ids"].max() == 1
    assert made["sequence"].num_batches == 2
    batched = [made["sequence"][i][0]["token_ids"] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(batched), whole["token_ids"])
    assert preprocessed(given, None) == given


class Relabelling(keras_hub.models.ImageClassifierPreprocessor):
    def call(self, x, y=None, sample_weight=None):
        return keras.utils.pack_x_y_sample_weight(x, None if y is None else y * 0, sample_weight)


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        (lambda: keras.layers.RandomFlip(), "must return the same inputs for the same examples"),
        (lambda: Relabelling(), "must not change labels. Received: Relabelling"),
        (
            lambda: keras.layers.Resizing(4, 4),
            "train must be raw examples for model.preprocessor",
        ),
    ],
)
def test_a_preprocessor_that_cannot_be_applied_once_is_refused(preprocessor, message):
    given = images(8) if "raw" not in message else (np.zeros((4, 2)), np.zeros(4))
    pairs = tf.data.Dataset.from_tensor_slices(given)
    for data in (given, pairs, pairs.batch(4)):
        with pytest.raises(ConfigError, match=message):
            preprocessed({"train": data}, preprocessor())


def test_a_preprocessor_that_cannot_be_saved_is_refused():
    task = image_task()
    task.preprocessor = np.sqrt
    with pytest.raises(ConfigError, match="must be a KerasHub preprocessor or another layer"):
        preprocessor_of(task)

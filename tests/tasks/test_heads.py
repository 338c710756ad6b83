import random
import warnings

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones.coverage import Coverage
from finetune.backbones.loading import LoadedBackbone, load
from finetune.backbones.saving import save_task
from finetune.errors import ConfigError
from finetune.tasks.heads import build_task


def head(task):
    return [keras.ops.convert_to_numpy(weight.value) for weight in task.output_dense.weights]


def test_head_follows_the_seed_alone(preset):
    tasks = []
    for seed in (5, 5, 6):
        random.random()
        state = random.getstate()
        tasks.append(build_task(load(path=preset), 3, pooling="max", dropout=0.25, seed=seed))
    kernels = [head(task)[0] for task in tasks]
    assert np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[0], kernels[2])
    assert isinstance(tasks[0], keras_hub.models.ResNetImageClassifier)
    assert tasks[0].pooling == "max" and tasks[0].output_dropout.rate == 0.25
    assert tasks[0].output_dense.activation is keras.activations.linear
    random.setstate(state)


def test_global_random_state_is_untouched(preset):
    loaded = load(path=preset)
    before = random.getstate()
    build_task(loaded, 3, pooling="avg", dropout=0.0, seed=5)
    assert random.getstate() == before


def test_saved_task_predicts_the_same(preset, tmp_path):
    loaded = load(path=preset)
    task = build_task(loaded, 3, pooling="avg", dropout=0.1, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype="uint8")
    task.preprocessor = loaded.preprocessor
    expected = task.predict(images, verbose=0)
    task.preprocessor = None
    adam = keras.optimizers.Adam()  # ours are joined by a function, which Keras warns about
    task.compile(
        keras.optimizers.MultiOptimizer(lambda variable: adam), "sparse_categorical_crossentropy"
    )
    task.optimizer.build(task.trainable_variables)
    task.backbone.trainable = False
    optimizer = task.optimizer
    target = tmp_path / "run" / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for _ in range(2):  # the second replaces the first
            save_task(task, target, {"classes": ["a", "b", "é"]}, loaded.preprocessor)
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert '"é"' in (target / "labels.json").read_text(encoding="utf-8")
    for cls in (keras_hub.models.ImageClassifier, keras_hub.models.ResNetImageClassifier):
        again = cls.from_preset(str(target))
        assert np.array_equal(again.predict(images, verbose=0), expected)
        # Stem, two blocks and shortcut: 6 convolutions and 6 norms of 2, then kernel and bias.
        assert len(again.trainable_weights) == 6 + 6 * 2 + 2
        assert len(again.optimizer.variables) == 2  # iterations and rate: nothing of the training
    assert task.optimizer is optimizer and task.compiled and not task.backbone.trainable
    text = "".join(file.read_text() for file in target.glob("*.json"))
    assert '"trainable": false' not in text and "compile_config" not in text


def test_vit_pools_by_token_or_average(tmp_path):
    vit = keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 8, 8)
    vit.save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    for pooling, expected in (("auto", "token"), ("cls", "token"), ("avg", "gap")):
        assert build_task(loaded, 2, pooling=pooling, dropout=0.0, seed=0).pooling == expected
    with pytest.raises(ConfigError, match="head.pooling must be auto or avg or cls.*ViT"):
        build_task(loaded, 2, pooling="max", dropout=0.0, seed=0)


def of(backbone, kind="image", preprocessor=None):
    covered = Coverage(len(backbone.weights))
    return LoadedBackbone("own", "directory", backbone, kind, preprocessor, "", covered, {}, None)


@pytest.fixture(scope="module")
def bert():
    keras.utils.set_random_seed(0)
    return keras_hub.models.BertBackbone(9, 2, 2, 8, 16, max_sequence_length=12, num_segments=2)


def tokens(*lengths):
    ids = np.zeros((len(lengths), 8), "int32")
    for row, length in enumerate(lengths):
        ids[row, :length] = np.arange(length) % 7 + 2
    return {"token_ids": ids, "padding_mask": (ids > 0).astype("int32"), "segment_ids": 0 * ids}


def test_text_takes_kerashubs_own_head_unless_told_otherwise(bert):
    task = build_task(of(bert, "text"), 3, pooling="auto", dropout=0.1, seed=0)
    assert isinstance(task, keras_hub.models.BertTextClassifier)
    assert len(task.weights) == len(bert.weights) + 2


@pytest.mark.parametrize("pooling", ["avg", "cls", "max"])
def test_tokens_are_pooled_without_padding(bert, pooling):
    task = build_task(of(bert, "text"), 3, pooling=pooling, dropout=0.1, seed=0)
    given = tokens(5, 8, 1)
    sequence = keras.ops.convert_to_numpy(bert(given)["sequence_output"])
    mask = given["padding_mask"][..., None]
    pooled = {
        "avg": (sequence * mask).sum(1) / mask.sum(1),
        "cls": sequence[:, 0],
        "max": np.stack([row[:n].max(0) for row, n in zip(sequence, (5, 8, 1), strict=True)]),
    }[pooling]
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in task.get_layer("logits").weights)
    expected = pooled @ kernel + bias
    np.testing.assert_allclose(task.predict(given, verbose=0), expected, rtol=1e-4, atol=1e-5)
    # BERT's pooler (kernel and bias) is not used, so it is not there to be trained.
    assert len(task.weights) == len(bert.weights) - 2 + 2


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_model_with_our_head_is_read_without_this_package(bert, tmp_path, pooling):
    task = build_task(of(bert, "text"), 3, pooling=pooling, dropout=0.1, seed=0)
    expected = task.predict(tokens(5, 8), verbose=0)
    for layer in task._flatten_layers():
        layer.trainable = False
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    save_task(task, tmp_path / "model", {"classes": ["a", "b", "c"]}, preprocessor, bert)
    again = keras.saving.load_model(tmp_path / "model/model.keras")
    np.testing.assert_allclose(again.predict(tokens(5, 8), verbose=0), expected, rtol=1e-5)
    assert len(again.trainable_weights) == len(again.weights)
    read = keras_hub.models.TextClassifierPreprocessor.from_preset(str(tmp_path / "model"))
    assert read(["a b"])["token_ids"].shape == (1, 8)


def test_dino_gets_a_head_on_its_first_token_or_its_patches():
    dino = keras_hub.models.DINOV2Backbone(
        8, 1, 8, 2, 16, num_register_tokens=2, image_shape=(16, 16, 3)
    )
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    sequence = keras.ops.convert_to_numpy(dino({"images": images}))  # class, 2 registers, 4 patches
    assert sequence.shape == (2, 7, 8)
    for pooling, pooled in (
        ("auto", sequence[:, 0]), ("cls", sequence[:, 0]), ("avg", sequence[:, 3:].mean(1)),
        ("max", sequence[:, 3:].max(1)),
    ):  # fmt: skip
        task = build_task(of(dino), 3, pooling=pooling, dropout=0.0, seed=0)
        kernel, bias = (keras.ops.convert_to_numpy(w) for w in task.get_layer("logits").weights)
        expected = pooled @ kernel + bias
        np.testing.assert_allclose(task.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_backbone_without_classifier_or_tokens():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    with pytest.raises(ConfigError, match="outputs tokens. Received: auto"):
        build_task(of(model), 2, pooling="auto", dropout=0.0, seed=0)

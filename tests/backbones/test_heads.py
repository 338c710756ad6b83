import random
import warnings

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones.heads import build_task, save_task
from finetune.backbones.loading import LoadedBackbone, load
from finetune.errors import ConfigError


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
    expected = task.predict(images, verbose=0)
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
            save_task(task, target, ["a", "b", "é"])
    assert [each.name for each in target.parent.iterdir()] == ["model"]
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


def test_wrong_number_of_names(preset, tmp_path):
    task = build_task(load(path=preset), 3, pooling="avg", dropout=0.0, seed=0)
    with pytest.raises(ConfigError, match="3 names.*Received: 2"):
        save_task(task, tmp_path / "model", ["a", "b"])


def test_vit_pools_by_average_only(tmp_path):
    vit = keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 8, 8)
    vit.save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    assert build_task(loaded, 2, pooling="avg", dropout=0.0, seed=0).pooling == "gap"
    with pytest.raises(ConfigError, match="head.pooling must be avg.*ViT"):
        build_task(loaded, 2, pooling="max", dropout=0.0, seed=0)


def test_backbone_without_classifier():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    converter = keras_hub.layers.ResNetImageConverter()
    loaded = LoadedBackbone("own", "directory", model, converter, "", (8, 8))
    with pytest.raises(ConfigError, match="image classifier for. Received: own"):
        build_task(loaded, 2, pooling="avg", dropout=0.0, seed=0)

"""Layers that a user's model brings along: LoRA, quantised kernels, augmentation, own statistics."""

import keras
import keras_hub
import numpy as np
import pytest

import finetune
from finetune.errors import ConfigError

L = keras.layers
HEAD = {"policy": "depth", "unfreeze_depth": 0}


def fit(model, data, freeze=HEAD, overrides=(), stages=None, directory=None, **phase):
    phase = {"epochs": 1, "learning_rate": 0.05, "freeze": dict(freeze), **phase}
    tuner = finetune.FineTuner(
        model, {"phases": {"p": phase}}, stages=stages, verbose=False, directory=directory,
        overrides=["dataset.batch_size=8", *overrides],
    )  # fmt: skip
    return tuner.fit(data, data)


def numbers(count=24, features=6):
    inputs = np.random.default_rng(0).normal(size=(count, features)).astype("float32")
    return inputs, np.argmax(inputs[:, :3], 1)


def values(model):
    return {each.path: np.array(each) for each in model.weights}


def moved(before, model):
    return {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }


def lora_model(*layers):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = L.Dense(8, "relu", name="low")(inputs)
    model = keras.Model(inputs, L.Dense(3, name="out")(x))
    for name in layers:
        model.get_layer(name).enable_lora(2)
    return model


@pytest.mark.parametrize("again", [False, True], ids=["as enabled", "frozen and thawed since"])
def test_lora_kernels_train_and_what_they_add_to_does_not(tmp_path, again):
    model = lora_model("low")
    if again:  # Keras then wakes the kernel
        model.trainable = False
        model.trainable = True
    flags = [each.trainable for each in (*model.layers, *model.weights)]
    before = values(model)
    record = fit(model, numbers(), {"policy": "none"}, directory=tmp_path)
    assert moved(before, model) == {
        "low/bias", "low/lora_kernel_a", "low/lora_kernel_b", "out/kernel", "out/bias",
    }  # fmt: skip
    counts = record.phases[0].weight_counts
    # low: a 6×2, b 2×8, bias 8 | kernel 6×8; head 8×3 + 3.
    assert counts["trainable"] == {"weights": 5, "parameters": 12 + 16 + 8 + 24 + 3}
    assert counts["untrainable"] == {"weights": 1, "parameters": 48}
    assert record.phases[0].frozen_proof.weights_checked == 1
    assert [each.trainable for each in (*model.layers, *model.weights)] == flags
    loaded = keras.saving.load_model(tmp_path / "model/model.keras")
    inputs, _ = numbers()
    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-5)


def test_a_weight_whose_own_flag_is_off_stays_off(tmp_path):
    model = lora_model()
    model.get_layer("low").bias.trainable = False
    model.get_layer("out").trainable = False  # a flag of a layer plays no part
    before = values(model)
    fit(model, numbers(), {"policy": "none"}, directory=tmp_path)
    assert moved(before, model) == {"low/kernel", "out/kernel", "out/bias"}


def tokens(count=16, length=5):
    random = np.random.default_rng(0)
    return random.integers(1, 20, (count, length)), np.arange(count) % 2


@pytest.mark.parametrize("policy", ["none", "bias_only", "norm_only"])
def test_lora_of_embeddings_and_einsum(tmp_path, policy):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    x = L.Embedding(20, 8, name="table")(inputs)
    x = L.EinsumDense("abc,cd->abd", (5, 8), bias_axes="d", name="einsum")(x)
    x = L.LayerNormalization(name="norm")(x)
    model = keras.Model(inputs, L.Dense(2, name="out")(L.Flatten()(x)))
    for name in ("table", "einsum"):
        model.get_layer(name).enable_lora(2)
    before = values(model)
    record = fit(model, tokens(), {"policy": policy}, directory=tmp_path)
    changed = moved(before, model)
    assert not changed & {"table/embeddings", "einsum/kernel"}
    assert ("einsum/lora_kernel_a" in changed) == (policy == "none")
    assert record.phases[0].weight_counts["untrainable"]["weights"] == 2


def test_lora_of_a_kerashub_backbone(tmp_path):
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(30, 1, 2, 8, 16, dropout=0.0, max_sequence_length=8)
    backbone.enable_lora(2)
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((5,), dtype="int32", name=name) for name in names}
    pooled = backbone(inputs)["pooled_output"]
    model = keras.Model(inputs, L.Dense(2, name="out")(pooled))
    ids, labels = tokens()
    given = dict(zip(names, (ids, np.zeros_like(ids), np.ones_like(ids)), strict=True))
    before = values(model)
    record = fit(model, (given, labels), {"policy": "none"}, directory=tmp_path)
    changed = moved(before, model)
    kernels = {path for path in before if "lora_kernel" in path}
    assert len(kernels) == 4 and {path for path in kernels if "_b" in path[-2:]} <= changed
    base = {path.replace("lora_kernel_a", "kernel") for path in kernels if path.endswith("_a")}
    assert len(base) == 2 and not changed & base
    assert record.phases[0].weight_counts["untrainable"]["weights"] == 2


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantised_kernels_stay(tmp_path, mode):
    model = lora_model()
    model.get_layer("low").quantize(mode)
    model.get_layer("low").enable_lora(2)
    before = values(model)
    record = fit(model, numbers(), {"policy": "none"}, directory=tmp_path)
    changed = moved(before, model)
    assert not {path for path in changed if path.startswith("low/kernel")}
    assert {"low/lora_kernel_b", "low/bias", "out/kernel"} <= changed
    assert record.phases[0].weight_counts["untrainable"]["weights"] >= 2


MODES = []


@keras.saving.register_keras_serializable("tests")
class Noted(L.Layer):
    """An augmentation of one's own that notes how it runs."""

    def call(self, x, training=None):
        MODES.append(training)
        return x


@keras.saving.register_keras_serializable("tests")
class Wrapped(L.Layer):
    """A pretrained layer with an augmentation of Keras inside."""

    def build(self, shape):
        self.flip = L.RandomFlip(seed=1)
        self.drop = L.Dropout(0.5, seed=1)
        self.conv = L.Conv2D(2, 3)
        self.conv.build(shape)
        self.built = True

    def call(self, x, training=None):
        return self.conv(self.drop(self.flip(x, training=training), training=training))


def images(count=16):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 8, 8, 3)).astype("float32"), np.arange(count) % 2


def image_model(*first):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3))
    for layer in (*first, L.Conv2D(4, 3, name="low"), L.GlobalAveragePooling2D()):
        x = layer(x)
    return keras.Model(inputs, L.Dense(2, name="out")(x))


def test_augmentation_before_a_frozen_stage_is_awake_and_named(tmp_path):
    model = image_model(L.RandomFlip(name="flip", seed=1), Noted(name="noted"))
    MODES.clear()
    record = fit(model, images(), directory=tmp_path)
    assert set(MODES) == {True, False}  # training, and validation
    assert record.phases[0].features["reason"] == (
        "no frozen prefix; flip is awake in training, below 2 frozen weights"
    )
    with pytest.raises(ConfigError, match="solver must be gradient"):
        fit(
            image_model(L.RandAugment(name="random")),
            images(),
            directory=tmp_path / "exact",
            solver="lbfgs",
        )


def test_resizing_does_not_end_the_prefix(tmp_path):
    model = image_model(L.Resizing(6, 6), L.CenterCrop(5, 5), L.Rescaling(2.0))
    record = fit(
        model,
        images(),
        directory=tmp_path / "run",
        overrides=["features.cache=always", f"features.dir={tmp_path}"],
    )
    assert record.phases[0].features["cached"]


def test_augmentation_inside_a_frozen_layer_is_awake_and_dropout_is_not(tmp_path):
    model = image_model(Wrapped(name="wrapped"))
    wrapped = model.get_layer("wrapped")
    seeds = [each.state for each in (wrapped.flip.generator, wrapped.drop.seed_generator)]
    before = [np.array(each) for each in seeds]
    record = fit(model, images(), directory=tmp_path, stages={"low": ["wrapped", "low"]})
    assert "wrapped is awake" in record.phases[0].features["reason"]
    flipped, dropped = (
        not np.array_equal(was, np.array(s)) for was, s in zip(before, seeds, strict=True)
    )
    assert flipped and not dropped

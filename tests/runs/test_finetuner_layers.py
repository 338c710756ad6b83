"""Layers that a user's model brings along: LoRA, quantised kernels, augmentation, own statistics."""

import operator

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import yaml

import finetune
from finetune.backbones.own import last_activation
from finetune.errors import ConfigError, TrainingError

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
    return {weight.path: np.array(weight) for weight in model.weights}


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
    flags = [item.trainable for item in (*model.layers, *model.weights)]
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
    assert [item.trainable for item in (*model.layers, *model.weights)] == flags
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


def test_a_lora_head_trains(tmp_path):
    model = lora_model("out")
    before = values(model)
    fit(model, numbers(), directory=tmp_path, epochs=2)  # standardising is the default
    assert moved(before, model) == {"out/lora_kernel_a", "out/lora_kernel_b", "out/bias"}


@pytest.mark.parametrize(
    "prepare", [lambda head: head.enable_lora(2), lambda head: head.quantize("int8")]
)
def test_lbfgs_says_why_a_head_is_not_plain(tmp_path, prepare):
    model = lora_model()
    prepare(model.get_layer("out"))
    with pytest.raises(
        ConfigError, match=r"solver must be gradient.*lbfgs with (LoRA of rank 2|int8 quantization)"
    ):
        fit(model, numbers(), directory=tmp_path, solver="lbfgs")


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
    seeds = [generator.state for generator in (wrapped.flip.generator, wrapped.drop.seed_generator)]
    before = [np.array(seed) for seed in seeds]
    record = fit(model, images(), directory=tmp_path, stages={"low": ["wrapped", "low"]})
    assert "wrapped is awake" in record.phases[0].features["reason"]
    flipped, dropped = (
        not np.array_equal(was, np.array(s)) for was, s in zip(before, seeds, strict=True)
    )
    assert flipped and not dropped


@pytest.mark.parametrize("key", ["runtime.device=auto", "runtime.deterministic=false",
    "runtime.steps_per_execution=1", "runtime.checkpoint_minutes=1", "runtime.checkpoint_minutes=null",
    "trackers.project=p", "features.max_gib=1", "optimizer=sgd", "seed=1", "dataset.batch_size=4",
    "dataset.class_weights=balanced", "head.standardise=never"])  # fmt: skip
def test_every_key_that_the_page_promises_is_taken(key):
    tuner = finetune.FineTuner(lora_model(), overrides=[key], verbose=False)
    path, _, value = key.replace("optimizer=", "optimizer.name=").partition("=")
    taken = operator.attrgetter(path)(tuner._config)
    assert taken == yaml.safe_load(value)


def test_check_does_not_advise_to_resume(tmp_path):
    model = lora_model()
    model.get_layer("out").bias.assign([np.nan, 0.0, 0.0])
    tuner = finetune.FineTuner(
        model, {"phases": {"p": {"epochs": 1, "learning_rate": 0.5, "freeze": HEAD}}},
        verbose=False, directory=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(TrainingError) as caught:
        tuner.check(numbers(), numbers())
    text = str(caught.value)
    assert "nan in phase p, epoch 0, step 0, at learning rate 0.5" in text
    assert "schedule.phases.p.learning_rate=0.05" in text
    assert "wrote nothing" in text and "esume" not in text
    assert not (tmp_path / "run").exists()


def test_a_lookup_stays_below_the_cut_and_its_vocabulary_is_in_the_key(tmp_path):
    inputs, labels = numbers()
    cities = np.array(["Rome", "Oslo", "Bonn"], object)[labels][:, None]
    keys = []
    for words in (["Rome", "Oslo", "Bonn"], ["Rome", "Oslo", "Oslo"]):
        keras.utils.set_random_seed(0)
        number = keras.Input((6,), name="number")
        city = keras.Input((1,), dtype="string", name="city")
        look = L.StringLookup(output_mode="multi_hot", max_tokens=8, pad_to_max_tokens=True)
        look.adapt(np.array(words))
        x = L.Concatenate()([L.Dense(8, name="low")(number), L.Dense(4, name="own")(look(city))])
        model = keras.Model({"number": number, "city": city}, L.Dense(3, name="out")(x))
        record = fit(
            model, ({"number": inputs, "city": cities}, labels), stages={"low": "low"},
            overrides=["features.cache=always", f"features.dir={tmp_path}/f"],
            directory=tmp_path / str(len(keys)),
        )  # fmt: skip
        assert record.phases[0].features["cached"]
        keys.append({path.name for path in (tmp_path / "f").iterdir() if path.is_dir()})
    assert keys[0] < keys[1]  # the second one found nothing of the first


@keras.saving.register_keras_serializable("tests")
class Length(L.Layer):
    """Uses texts, in another way in training: they cross the cut."""

    def call(self, x, training=None):
        return keras.ops.cast(tf.strings.length(x), "float32")


def test_texts_that_cross_a_cut_are_not_stored(tmp_path):
    inputs, labels = numbers()
    number, text = keras.Input((6,), name="number"), keras.Input((1,), dtype="string", name="text")
    low = L.Dense(8, name="low")(number)
    x = L.Concatenate()([low, L.Dense(4, name="own")(Length(name="length")(text))])
    model = keras.Model({"number": number, "text": text}, L.Dense(3, name="out")(x))
    given = {"number": inputs, "text": np.full((len(labels), 1), "word", object)}
    record = fit(
        model, (given, labels), stages={"low": "low"}, overrides=["features.cache=always"],
        directory=tmp_path,
    )  # fmt: skip
    reason = record.phases[0].features["reason"]
    assert "the store holds numbers only, and the texts of input would have to be stored" in reason


@pytest.mark.parametrize(("activation", "name"), [(None, "linear"), ("softmax", "softmax")])
def test_a_wrapped_dense_layer_may_be_the_head(activation, name):
    inputs = keras.Input((4,))
    head = L.SpectralNormalization(L.Dense(3, activation))
    assert last_activation(keras.Model(inputs, head(inputs)))[0] == name

"""FineTuner gives the same numbers whether features are stored or not, whatever the model has."""

import random
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import finetune
from finetune.backbones.own import own_stages
from finetune.errors import ConfigError
from finetune.features.cut import task_graph
from finetune.freezing.inventory import take_inventory
from tests.helpers.own_models import losses, phase, tune, two_layers, vectors


def test_splits_may_have_other_dtypes_than_the_model(tmp_path):
    inputs, labels = vectors()
    (held, held_labels), plain = vectors(16, 1), {}
    plain = losses(tune(two_layers(), tmp_path / "0", "always", test=(held, held_labels)))
    for number, (train, validation) in enumerate(
        (
            (inputs.astype("float64"), held),
            (inputs.tolist(), held.astype("float64")),
            (inputs.astype(object), held.astype("float64").tolist()),
        ),
        start=1,
    ):
        directory = tmp_path / str(number)
        record = tune(
            two_layers(), directory, "always",
            train=(train, labels), validation=(validation, held_labels), test=(held, held_labels),
        )  # fmt: skip
        assert record.phases[0].features["cached"]
        assert losses(record) == pytest.approx(plain, rel=1e-6)


TERMS = {
    "kernel_constraint": lambda: keras.constraints.MaxNorm(0.5),
    "bias_constraint": lambda: keras.constraints.NonNeg(),
    "kernel_regularizer": lambda: keras.regularizers.L2(1.0),
    "bias_regularizer": lambda: keras.regularizers.L1(1.0),
    "activity_regularizer": lambda: keras.regularizers.L2(0.1),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_head_with_a_constraint_or_regularizer_is_not_standardised(tmp_path, name):
    inputs, labels = vectors(64)
    given = (inputs * 0.02, labels)
    model = two_layers(**{name: TERMS[name]()})
    record = tune(
        model, tmp_path, "always", "optimizer=sgd",
        phases={"head": phase(2, 0.1)}, train=given, validation=given,
    )  # fmt: skip
    says = f"; the head is not standardised: {name} {type(TERMS[name]()).__name__}"
    assert says in record.features[0].reason
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kept = model.evaluate(*given, batch_size=8, verbose=0)
    assert record.phases[0].metrics["validation"]["loss"] == pytest.approx(kept, rel=1e-4)
    kernel, bias = map(np.array, model.get_layer("out").weights)
    assert name != "kernel_constraint" or np.linalg.norm(kernel, axis=0).max() <= 0.5001
    assert name != "bias_constraint" or bias.min() >= 0


def test_lbfgs_refuses_a_constraint_or_regularizer_that_it_would_not_obey(tmp_path):
    name = "kernel_constraint"
    model, phases = two_layers(**{name: TERMS[name]()}), {"head": phase() | {"solver": "lbfgs"}}
    with pytest.raises(ConfigError, match=f"does not obey. Received: lbfgs with {name} "):
        tune(model, tmp_path, "always", phases=phases)


def wide(policy):
    """Returns a model of two layers below the head, built under a global policy."""
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="low")(inputs)
    x = keras.layers.Dense(8, "tanh", name="high")(x)
    tiny = keras.initializers.RandomNormal(0, 1e-7)
    x = keras.layers.Dense(3, name="out", dtype="float32", kernel_initializer=tiny)(x)
    model = keras.Model(inputs, x)
    keras.config.set_dtype_policy(before)
    return model


HIGH = {"policy": "patterns", "train": ["high/.*"], "freeze": [".*"]}


@pytest.mark.parametrize("around", [False, True], ids=["itself", "a model around it"])
def test_the_loss_is_scaled_where_a_layer_has_mixed_float16(tmp_path, around):
    moved = []
    for cache in ("never", "always"):
        model = wide("mixed_float16")
        if around:  # of float32, which Keras would not scale
            outer = keras.Input((6,))
            model = keras.Model(outer, model(outer))
        high = next(layer for layer in model._flatten_layers() if layer.name == "high")
        before = np.array(high.kernel)
        record = tune(
            model, tmp_path / cache, cache, "optimizer=sgd", "optimizer.momentum=0",
            phases={"high": phase(2, 1e3, **HIGH)},
        )  # fmt: skip
        assert record.phases[0].features["cached"] == (cache == "always")
        moved.append(np.abs(np.array(high.kernel) - before))
    assert moved[0].max() > 1e-5  # the gradients are far below what float16 holds
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
@pytest.mark.parametrize("built", ["float32", "floatx"])
def test_floatx_changes_both_ways_alike(tmp_path, floatx, built):
    found, before = [], (keras.config.floatx(), keras.config.dtype_policy())
    for cache in ("never", "always"):
        try:
            model = two_layers() if built == "float32" else None
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(floatx if built == "floatx" else before[1])
            record = tune(
                model or two_layers(), tmp_path / cache, cache, "optimizer=sgd", test=vectors(16, 2)
            )
            assert keras.config.floatx() == floatx
        finally:
            keras.config.set_floatx(before[0])
            keras.config.set_dtype_policy(before[1])
        assert (
            record.device["precision"]
            == f"{floatx if built == 'floatx' else 'float32'}, floatx {floatx}"
        )
        found.append(losses(record))
    assert found[0] == pytest.approx(found[1], rel=1e-2 if floatx == "float16" else 1e-6)


GENERATOR = []


def drawing(draw):
    """Returns a layer without state, seed or training argument that adds what `draw` returns."""

    @keras.saving.register_keras_serializable("numbers", name=f"Drawing{len(GENERATOR)}")
    class Drawing(keras.layers.Layer):
        def call(self, x):
            return x + draw(x)

    GENERATOR.append(Drawing)
    return Drawing(name="noise")


DRAWS = {
    "keras": lambda x: keras.random.normal(keras.ops.shape(x)),
    "a fixed seed": lambda x: keras.random.normal(keras.ops.shape(x), seed=3),
    "tf": lambda x: tf.random.normal(tf.shape(x)),
    "in a while loop": lambda x: tf.while_loop(
        lambda i, _: i < 1, lambda i, y: (i + 1, y + tf.random.uniform(tf.shape(y))), (0, x * 0)
    )[1],
    "numpy": lambda x: np.random.normal(size=6).astype("float32"),
    "python": lambda x: random.random(),
    "numpy in each step": lambda x: tf.ensure_shape(
        tf.numpy_function(
            lambda y: np.random.normal(size=y.shape).astype("float32"), [x], "float32"
        ),
        x.shape,
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_of_any_kind_are_noticed(name):
    noise = drawing(DRAWS[name])
    model = two_layers(lambda x: keras.layers.Dense(8, "relu", name="low")(noise(x)))
    graph = task_graph(take_inventory(model, own_stages(model)))
    ((index, reason),) = graph.unfixed.items()
    assert graph.calls[index].operation is noise
    assert re.match("draws random numbers|runs Python code in each step", reason)


def test_code_of_ones_own_that_draws_nothing_is_stored():
    steady = drawing(lambda x: keras.ops.cumsum(x, 1) * np.arange(6, dtype="float32"))
    model = two_layers(lambda x: keras.layers.Dense(8, keras.ops.sin, name="low")(steady(x)))
    assert not task_graph(take_inventory(model, own_stages(model))).unfixed


def test_random_numbers_are_never_stored_as_if_they_were_fixed(tmp_path):
    noise = drawing(DRAWS["keras"])
    model = two_layers(lambda x: keras.layers.Dense(8, "relu", name="low")(noise(x)))
    record = tune(model, tmp_path, "always")
    assert not record.phases[0].features["cached"]
    assert "; no cut above noise (draws random numbers)" in record.features[0].reason


def test_a_frozen_layer_that_adds_a_loss_is_computed_in_each_step(tmp_path):
    @keras.saving.register_keras_serializable("numbers")
    class Adding(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    def regular(x):
        penalty = keras.regularizers.L1(1.0)
        return keras.layers.Dense(8, "relu", name="low", activity_regularizer=penalty)(x)

    def adding(x):
        return Adding(name="low")(keras.layers.Dense(8, "relu", name="below")(x))

    def inside(x):  # a model whose own outputs are regularized
        layers = [keras.Input((6,)), keras.layers.Dense(8, "relu")]
        model = keras.Sequential(layers, name="low")
        model.activity_regularizer = keras.regularizers.L1(1.0)
        return model(x)

    held = vectors(16, 1)
    for low in (regular, adding, inside):
        found = []
        for cache in ("never", "always"):
            directory = tmp_path / f"{low.__name__}-{cache}"
            record = tune(two_layers(low), directory, cache, "head.standardise=never", test=held)
            found.append(losses(record))
            # The test gives the cross-entropy alone.
            assert record.phases[0].metrics["validation"]["loss"] > record.test["loss"] + 0.1
        assert found[0] == pytest.approx(found[1], rel=1e-5), low.__name__


@keras.saving.register_keras_serializable("numbers")
class Own(keras.Model):
    called = []

    def train_step(self, data):
        self.called.append("train_step")
        return super().train_step(data)

    def compute_loss(self, *arguments, **more):
        self.called.append("compute_loss")
        return 2 * super().compute_loss(*arguments, **more)


def owning(cls=Own):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="low")(inputs)
    return cls(inputs, keras.layers.Dense(3, name="out")(x))


def test_steps_of_the_models_own_are_used_in_every_phase(tmp_path):
    found, phases = [], {"head": phase(), "all": phase(policy="none")}
    for cache in ("never", "always"):
        Own.called.clear()
        record = tune(owning(), tmp_path / cache, cache, phases=phases)
        assert set(Own.called) == {"train_step", "compute_loss"}
        found.append(losses(record))
        assert record.features[0].reason == (
            "code of the model's own (train_step, compute_loss) needs the model's inputs"
        )
    assert found[0] == found[1]
    plain = tune(two_layers(), tmp_path / "plain", "never", "head.standardise=never", phases=phases)
    assert found[0][0] > 1.5 * losses(plain)[0]  # its loss is twice as large
    message = "for a model with train_step, compute_loss of its own, which the solver does not run"
    with pytest.raises(ConfigError, match=message):
        tune(owning(), tmp_path / "exact", "auto", phases={"head": phase() | {"solver": "lbfgs"}})


def test_a_step_that_is_set_on_the_model_is_its_own_too(tmp_path):
    model, called = two_layers(), []
    given = model.test_step
    model.test_step = lambda data: called.append("test_step") or given(data)
    record = tune(model, tmp_path, "always")
    assert called and "the model's own (test_step)" in record.features[0].reason


def test_steps_of_ones_own_return_what_is_recorded(tmp_path):
    class Silent(Own):
        def train_step(self, data):
            return {"mine": super().train_step(data)["loss"]}

    class Unmeasured(Own):
        def test_step(self, data):
            return {"loss": super().test_step(data)["loss"]}

    for cls, received in ((Silent, "train_step must return loss and accuracy. Received: mine"),
                          (Unmeasured, "test_step must return loss and accuracy. Received: loss")):  # fmt: skip
        with pytest.raises(ConfigError, match=received):
            tune(
                owning(keras.saving.register_keras_serializable("numbers")(cls)),
                tmp_path / cls.__name__,
                "never",
            )


def test_methods_that_take_other_arguments_are_refused(tmp_path):
    class Other(Own):
        def compile(self, optimizer, discriminator):
            super().compile(optimizer)

        def fit(self, x, y):
            return super().fit(x, y)

    with pytest.raises(ConfigError) as caught:
        finetune.FineTuner(
            owning(keras.saving.register_keras_serializable("numbers")(Other)), directory=tmp_path
        )
    text = str(caught.value)
    assert (
        "model.compile must take the arguments of keras.Model.compile. Received: Other.compile(optimizer, d"
        in text
    )
    assert "model.fit must take the arguments of keras.Model.fit. Received: Other.fit(x, y)" in text


def test_sequences_of_another_length_in_each_split_are_stored_in_their_own(tmp_path):
    found, draw = [], np.random.default_rng(0)
    splits = [(draw.normal(size=(16, length, 2)), np.arange(16) % 3) for length in (5, 7, 9)]
    for cache in ("never", "always"):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, 2))
        x = keras.layers.Conv1D(4, 2, activation="relu", name="low")(inputs)
        x = keras.layers.Conv1D(4, 2, name="high")(x)
        x = keras.layers.GlobalMaxPooling1D(name="pool")(x)
        model = keras.Model(inputs, keras.layers.Dense(3, name="out")(x))
        high = {"policy": "patterns", "train": ["high/.*", "out/.*"], "freeze": [".*"]}
        record = tune(
            model, tmp_path, cache, phases={"high": phase(2, **high)},
            train=splits[0], validation=splits[1], test=splits[2],
        )  # fmt: skip
        assert record.phases[0].features["cached"] == (cache == "always")
        found.append(losses(record))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_features_that_depend_on_the_other_rows_are_not_stored(tmp_path):
    def low(x):
        x = keras.layers.Dense(8, "relu", name="low")(x)
        return x - keras.ops.mean(x, axis=0, keepdims=True)

    found = [losses(tune(two_layers(low), tmp_path, cache)) for cache in ("never", "always")]
    assert found[0] == found[1]
    record = tune(two_layers(low), tmp_path / "again", "auto")
    assert (
        record.features[0].reason == "the features of a row depend on the other rows of its batch"
    )
    message = (
        "solver must be gradient where features cannot be stored. Received: lbfgs, but the features"
    )
    with pytest.raises(ConfigError, match=message):
        tune(
            two_layers(low),
            tmp_path / "exact",
            "auto",
            phases={"head": phase() | {"solver": "lbfgs"}},
        )

"""FineTuner gives the same numbers whether features are stored or not, whatever the model has."""

import keras
import numpy as np
import pytest

import finetune
from finetune.errors import ConfigError

HEAD = {"policy": "depth", "unfreeze_depth": 0}


def phase(epochs=1, rate=1e-2, **freeze):
    return {"epochs": epochs, "learning_rate": rate, "freeze": freeze or HEAD}


def vectors(number=40, seed=0):
    inputs = np.random.default_rng(seed).normal(size=(number, 6)).astype("float32")
    return inputs, np.argmax(inputs[:, :3], 1)


def functional(low=None, **head):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="low")(inputs) if low is None else low(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="out", **head)(x))


def tune(model, directory, cache, *more, phases=None, train=None, validation=None, test=None):
    """Trains in `directory`; returns the record."""
    tuner = finetune.FineTuner(
        model, {"phases": phases or {"head": phase()}}, directory=directory / f"run-{cache}",
        overrides=["dataset.batch_size=8", f"features.cache={cache}",
                   f"features.dir={directory}/features", *more],
        verbose=False,
    )  # fmt: skip
    train = vectors() if train is None else train
    return tuner.fit(train, vectors(16, 1) if validation is None else validation, test=test)


def losses(record):
    """Returns the losses of all epochs, and of the test."""
    tested = [record.test["loss"]] if record.test else []
    return [row.loss for row in record.history] + tested


def test_splits_may_have_other_dtypes_than_the_model(tmp_path):
    inputs, labels = vectors()
    (held, held_labels), plain = vectors(16, 1), {}
    plain = losses(tune(functional(), tmp_path / "0", "always", test=(held, held_labels)))
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
            functional(), directory, "always",
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
    given, phases = vectors(64), {"head": phase(4, 0.1)}
    given = (given[0] * 0.02, given[1])
    kernels = []
    for standardise in ("auto", "never"):
        model = functional(**{name: TERMS[name]()})
        record = tune(
            model, tmp_path / standardise, "always", "optimizer=sgd", f"head.standardise={standardise}",
            phases=phases, train=given, validation=given,
        )  # fmt: skip
        kernels.append(np.array(model.get_layer("out").kernel))
        says = f"; the head is not standardised: {name} {type(TERMS[name]()).__name__}"
        assert (says in record.features[0].reason) == (standardise == "auto")
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        kept = model.evaluate(*given, batch_size=8, verbose=0)
        assert record.phases[0].metrics["validation"]["loss"] == pytest.approx(kept, rel=1e-4)
    np.testing.assert_array_equal(*kernels)
    bias = np.array(model.get_layer("out").bias)
    assert name != "kernel_constraint" or np.linalg.norm(kernels[0], axis=0).max() <= 0.5001
    assert name != "bias_constraint" or bias.min() >= 0


@pytest.mark.parametrize("name", TERMS)
def test_lbfgs_refuses_a_constraint_or_regularizer_that_it_would_not_obey(tmp_path, name):
    model, phases = functional(**{name: TERMS[name]()}), {"head": phase() | {"solver": "lbfgs"}}
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
        high = next(each for each in model._flatten_layers() if each.name == "high")
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
            model = functional() if built == "float32" else None
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(floatx if built == "floatx" else before[1])
            record = tune(
                model or functional(), tmp_path / cache, cache, "optimizer=sgd", test=vectors(16, 2)
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

"""FineTuner gives the same numbers whether features are stored or not, whatever the model has."""

import keras
import numpy as np
import pytest

import finetune

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

"""Models of a user's own, data and schedules for them, and short runs of `FineTuner`."""

import keras
import numpy as np

import finetune

RULE = {"a": "a_.*", "b": ["b_dense", "b_norm"]}
HEAD = {"policy": "depth", "unfreeze_depth": 0}
TWO_PHASES = {
    "phases": {
        "head": {"epochs": 2, "learning_rate": 1e-2, "freeze": {"policy": "depth", "unfreeze_depth": 0}},
        "top": {"epochs": 1, "learning_rate": 1e-3, "freeze": {"policy": "stages", "stages": ["b"]}},
    }
}  # fmt: skip


@keras.saving.register_keras_serializable("tests")
class Shifted(keras.layers.Layer):
    """Has a constant of its own that training must not touch, and a scale that may train."""

    def build(self, shape):
        self.shift = self.add_weight(
            shape=(shape[-1],), initializer="ones", trainable=False, name="shift"
        )
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale + self.shift


def functional(last="linear", classes=3):
    """Returns a functional model of two stages, with a custom layer, BatchNorm and dropout."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", name="a_dense")(inputs)
    x = Shifted(name="a_shift")(x)
    x = keras.layers.Dense(8, activation="relu", name="b_dense")(x)
    x = keras.layers.BatchNormalization(name="b_norm")(x)
    x = keras.layers.Dropout(0.2, name="b_drop")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, last, name="out")(x), name="mine")


def vectors(number=40, seed=0, classes=3):
    """Returns (inputs, labels): the largest of the first numbers of an input is its class."""
    inputs = np.random.default_rng(seed).normal(size=(number, 6)).astype("float32")
    return inputs, np.argmax(inputs[:, :classes], 1)


def two_layers(low=None, **head):
    """Returns a model of one layer below the head.

    Args:
        low: The layer; None makes a dense one.
        head: Arguments of the head, such as a regularizer.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="low")(inputs) if low is None else low(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="out", **head)(x))


def phase(epochs=1, rate=1e-2, **freeze):
    """Returns the keys of a phase; without `freeze`, only the head trains."""
    return {"epochs": epochs, "learning_rate": rate, "freeze": freeze or HEAD}


def tune(model, directory, cache, *more, phases=None, train=None, validation=None, test=None):
    """Trains in `directory` on vectors and returns the record."""
    tuner = finetune.FineTuner(
        model, {"phases": phases or {"head": phase()}}, directory=directory / f"run-{cache}",
        overrides=["dataset.batch_size=8", f"features.cache={cache}",
                   f"features.dir={directory}/features", *more],
        verbose=False,
    )  # fmt: skip
    train = vectors() if train is None else train
    return tuner.fit(train, vectors(16, 1) if validation is None else validation, test=test)


def losses(record):
    """Returns the losses of all epochs, then that of the test."""
    tested = [record.test["loss"]] if record.test else []
    return [row.loss for row in record.history] + tested

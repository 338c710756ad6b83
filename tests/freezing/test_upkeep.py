"""Layers that write to weights in their own call are found, and held exactly where a phase asks for it."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from finetune.config.freeze import make_policy
from finetune.errors import ConfigError
from finetune.freezing.apply import apply, release
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.plan import make_plan
from finetune.schedule.phase import Phase

L = keras.layers


class Centre(L.Layer):
    """Keeps a moving mean of its inputs, under a name that does not tell so."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, name="mean")
        self.built = True

    def call(self, x, training=None):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, 0))
        return (x - self.mean) * self.gain


class Counter(L.Layer):
    """Counts its calls in training; the count does not depend on the inputs."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1],), initializer="ones", name="kernel")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.built = True

    def call(self, x, training=None):
        if training:
            self.calls.assign_add(1.0)
        return x * self.kernel


class Restless(Counter):
    """Counts its calls in every mode."""

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * self.kernel


class Constant(Counter):
    """Keeps a number that nothing writes to."""

    def call(self, x, training=None):
        return x * self.kernel + self.calls


class Pair(L.Layer):
    """Runs the layer that keeps the mean in training only, and passes no mode on to it."""

    class Mean(L.Layer):
        def build(self, shape):
            self.mean = self.add_weight(shape=(shape[-1],), trainable=False, name="mean")
            self.built = True

        def call(self, x):
            self.mean.assign(keras.ops.mean(x, 0))
            return x

    def build(self, shape):
        self.inner, self.dense = self.Mean(name="inner"), L.Dense(shape[-1], name="inner_dense")
        self.inner.build(shape)
        self.dense.build(shape)
        self.built = True

    def call(self, x, training=None):
        return self.dense(self.inner(x) if training else x)


class SyncBN(L.BatchNormalization):
    pass


class FrozenBN(L.BatchNormalization):
    """Never updates its statistics, as in detection models."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def inventory_of(*layers, head=()):
    keras.utils.set_random_seed(0)
    stage = [L.Dense(6, name="low"), *layers]
    x = inputs = keras.Input((6,))
    for layer in (*stage, *head, L.Dense(3, name="out")):
        x = layer(x)
    model = keras.Model(inputs, x)
    return take_inventory(model, [SimpleNamespace(name="low", layers=tuple(stage))])


def plan_of(inventory, policy="none", batch_norm="inference", **keys):
    phase = Phase(
        "p", 1, 0.1, make_policy({"policy": policy, **keys}, "freeze"), batch_norm=batch_norm
    )
    return make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)


def moved(inventory, plan):
    """Returns what three steps of Keras' fit move."""
    before = {path: to_numpy(variable) for path, variable in inventory.variables.items()}
    apply(plan, inventory)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    inventory.model.compile(keras.optimizers.SGD(0.1), loss)
    inputs = np.random.default_rng(0).normal(3.0, 2.0, (24, 6)).astype("float32")
    inventory.model.fit(inputs, np.arange(24) % 3, batch_size=8, verbose=0)
    release(inventory)
    after = {path: to_numpy(variable) for path, variable in inventory.variables.items()}
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_what_layers_write_to():
    layers = [
        L.BatchNormalization(name="bn"), SyncBN(name="sync"), FrozenBN(name="fixed"),
        Centre(name="centre"), Counter(name="counter"), Constant(name="constant"),
        L.SpectralNormalization(L.Dense(6, name="inner"), name="spectral"),
        L.LayerNormalization(name="ln"), L.Dropout(0.5), Pair(name="pair"),
    ]  # fmt: skip
    inventory = inventory_of(*layers)
    found = {writer.name: writer for writer in inventory.upkeep}
    assert {name: (set(writer.writes), writer.of_data) for name, writer in found.items()} == {
        "bn": ({"bn/moving_mean", "bn/moving_variance"}, True),
        "sync": ({"sync/moving_mean", "sync/moving_variance"}, True),
        "centre": ({"centre/mean"}, True),
        "counter": ({"counter/calls"}, False),
        "spectral": ({"spectral/inner/kernel", "spectral/vector_u"}, False),
        "pair": ({"pair/inner/mean"}, True),  # the layer whose call takes a mode
    }
    assert found["centre"].learns == ("centre/gain",)
    assert not any(writer.always for writer in found.values())
    assert not any("call" in vars(layer) for layer in inventory.layers)
    assert float(to_numpy(inventory.variables["counter/calls"])) == 0  # it was only traced


@pytest.mark.parametrize("cls", [L.BatchNormalization, SyncBN, Centre])
def test_statistics_are_held_until_the_phase_wakes_them(cls):
    inventory = inventory_of(cls(name="norm"))
    statistics = {path for path in inventory.variables if "mean" in path or "variance" in path}
    for batch_norm, expected in (("inference", set()), ("train", statistics)):
        plan = plan_of(inventory, batch_norm=batch_norm)
        assert moved(inventory, plan) & statistics == expected
        assert not set(plan.held_weights) & expected
    frozen = plan_of(inventory, "depth", "train", unfreeze_depth=0)
    assert moved(inventory, frozen) == {"out/kernel", "out/bias"}


def test_a_norm_without_weights_of_its_own_wakes_with_its_stage():
    bare = L.BatchNormalization(center=False, scale=False, name="bn")
    inventory = inventory_of(bare)
    statistics = {"bn/moving_mean", "bn/moving_variance"}
    assert moved(inventory, plan_of(inventory, batch_norm="train")) >= statistics
    assert not moved(inventory, plan_of(inventory)) & statistics
    bare = L.BatchNormalization(center=False, scale=False, name="bn")
    inventory = inventory_of(head=[bare])  # the head's statistics are new
    assert moved(inventory, plan_of(inventory, "all")) >= statistics


def test_the_proof_covers_constants_of_a_stage_that_trains():
    inventory = inventory_of(Constant(name="constant"), FrozenBN(name="fixed"))
    plan = plan_of(inventory, batch_norm="train")
    assert set(plan.held_weights) == {
        "constant/calls",
        "fixed/moving_mean",
        "fixed/moving_variance",
    }
    assert not moved(inventory, plan) & set(plan.held_weights)


def test_a_counter_is_not_a_statistic():
    inventory = inventory_of(Counter(name="counter"))
    assert "counter/calls" in moved(inventory, plan_of(inventory))
    assert "counter/calls" not in moved(inventory, plan_of(inventory, "all"))


def spectral():
    return L.SpectralNormalization(L.Dense(6, name="inner"), name="spectral")


def test_spectral_normalization_works_where_its_kernel_trains():
    inventory = inventory_of(spectral())
    assert {"spectral/vector_u", "spectral/inner/kernel"} <= moved(inventory, plan_of(inventory))
    assert moved(inventory, plan_of(inventory, "all")) == {"out/kernel", "out/bias"}
    # It writes to its kernel: it is held where that is frozen, though its bias trains.
    biases = moved(inventory, plan_of(inventory, "bias_only", "train"))
    assert biases == {"low/bias", "spectral/inner/bias", "out/kernel", "out/bias"}


def test_a_layer_that_writes_in_every_mode_is_refused_where_it_should_be_held():
    inventory = inventory_of(Restless(name="restless"))
    with pytest.raises(ConfigError, match=r"layer restless train.*writes to restless/calls in inf"):
        plan_of(inventory, "all")
    assert "restless/calls" in moved(inventory, plan_of(inventory))


class Broken(Centre):
    """Cannot be traced outside of a fit."""

    def call(self, x, training=None):
        if training and isinstance(keras.backend.StatelessScope, type) and scope_is_stateless():
            raise RuntimeError("no tracing here")
        return super().call(x, training=training)


def scope_is_stateless():
    from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope

    return in_stateless_scope() and get_stateless_scope() is not None


def test_a_layer_that_cannot_be_traced_counts_as_writing_to_all_it_does_not_train():
    inventory = inventory_of(Broken(name="broken"))
    (found,) = inventory.upkeep
    assert (found.writes, found.of_data) == (("broken/mean",), True)

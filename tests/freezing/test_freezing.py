"""Policies, plans, application, counts and proof on a model whose numbers are worked out by hand.

stage1: conv 3·3·1·4 + 4 = 40 in 2 weights; BatchNorm gamma, beta 8 in 2; statistics 8 in 2.
stage2: conv 3·3·4·4 + 4 = 148 in 2; BatchNorm 8 in 2; statistics 8 in 2, constant 4 in 1.
head:   dense 4·3 + 3 = 15 in 2.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from finetune.backbones import HEAD
from finetune.config.freeze import make_policy
from finetune.errors import FinetuneError, FrozenWeightsError
from finetune.freezing import proof
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import count
from finetune.freezing.inventory import to_numpy
from finetune.freezing.plan import State, make_plan
from finetune.freezing.policy import WeightInfo
from finetune.schedule.phase import Phase
from tests.helpers.tiny_model import make_tiny

IMAGES = np.random.default_rng(0).normal(2.0, 3.0, (24, 8, 8, 1)).astype("float32")
LABELS = np.arange(24) % 3


def phase(policy="depth", batch_norm="inference", **keys):
    return Phase(
        "p", 1, 0.01, make_policy({"policy": policy, **keys}, "freeze"), batch_norm=batch_norm
    )


def plan_of(inventory, a_phase):
    return make_plan(a_phase, inventory.infos, inventory.stage_names, inventory.upkeep)


def fit(inventory, plan, epochs=1):
    apply(plan, inventory)
    model = inventory.model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss)
    model.fit(IMAGES, LABELS, batch_size=8, epochs=epochs, verbose=0, shuffle=False)


def values(inventory):
    return {p: to_numpy(v) for p, v in inventory.variables.items()}


def moved(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


DEPTHS = [
    # depth, trainable, frozen, untrainable as (weights, parameters)
    (0, (2, 15), (8, 204), (5, 20)),
    (1, (6, 171), (4, 48), (5, 20)),
    (2, (10, 219), (0, 0), (5, 20)),
]


@pytest.mark.parametrize(("depth", "trainable", "frozen", "untrainable"), DEPTHS)
def test_counts_by_hand(tiny, depth, trainable, frozen, untrainable):
    plan = plan_of(tiny, phase(unfreeze_depth=depth))
    apply(plan, tiny)
    counts = count(plan, tiny)
    for state, expected in (
        ("trainable", trainable),
        ("frozen", frozen),
        ("untrainable", untrainable),
        ("total", (15, 239)),
        ("non_trainable", (15 - trainable[0], 239 - trainable[1])),
    ):
        assert tuple(counts.total[state].values()) == expected, state
    assert len(tiny.model.trainable_weights) == trainable[0]
    assert len(tiny.model.non_trainable_weights) == 15 - trainable[0]
    assert counts.stages["stage2"]["untrainable"] == {"weights": 3, "parameters": 12}
    assert counts.random_seeds == 1  # the dropout layer's


def test_only_the_planned_weights_move(tiny):
    for depth in (0, 1, 2, 1):
        plan = plan_of(tiny, phase(unfreeze_depth=depth))
        before = values(tiny)
        fit(tiny, plan)
        assert moved(before, values(tiny)) <= plan.trainable
        assert "logits/kernel" in moved(before, values(tiny))


def test_batch_norm_sleeps_until_the_phase_wakes_it(tiny):
    before = values(tiny)
    fit(tiny, plan_of(tiny, phase("none")))
    assert not [path for path in moved(before, values(tiny)) if "moving" in path]
    before = values(tiny)
    fit(tiny, plan_of(tiny, phase(unfreeze_depth=1, batch_norm="train")))
    awake = {path for path in moved(before, values(tiny)) if "moving" in path}
    assert awake == {"s2_bn/moving_mean", "s2_bn/moving_variance"}


def test_held_weights_are_frozen_weights_and_held_statistics(tiny):
    plan = plan_of(tiny, phase(unfreeze_depth=1))
    assert set(plan.held_weights) == {
        "s1_conv/kernel", "s1_conv/bias", "s1_bn/gamma", "s1_bn/beta",
        "s1_bn/moving_mean", "s1_bn/moving_variance", "s2_bn/moving_mean", "s2_bn/moving_variance",
        "s2_constant/shift",  # no call writes to it
    }  # fmt: skip
    awake = plan_of(tiny, phase(unfreeze_depth=1, batch_norm="train"))
    assert set(plan.held_weights) - set(awake.held_weights) == {
        "s2_bn/moving_mean",
        "s2_bn/moving_variance",
    }


def test_proof_catches_a_frozen_weight_that_moved(tiny):
    plan = plan_of(tiny, phase(unfreeze_depth=0))
    before = proof.digests(tiny.variables, plan.held_weights)
    proof.require_unchanged("p", before, proof.digests(tiny.variables, plan.held_weights))
    kernel = tiny.variables["s1_conv/kernel"]
    kernel.assign_add(keras.ops.ones_like(kernel) * 1e-7)
    after = proof.digests(tiny.variables, plan.held_weights)
    assert proof.combine(before) != proof.combine(after)
    with pytest.raises(FrozenWeightsError, match=r"phase p .* 1 changed \(s1_conv/kernel\)"):
        proof.require_unchanged("p", before, after)


# The traps of Keras, one regression test each.


def test_trap_freezing_a_frozen_parent_leaves_no_child_awake(tiny):
    backbone = tiny.model.get_layer("backbone")
    backbone.trainable = False
    backbone.get_layer("s1_conv").trainable = True
    plan = plan_of(tiny, phase(unfreeze_depth=0))
    apply(plan, tiny)
    assert {v.path for v in tiny.model.trainable_weights} == {"logits/kernel", "logits/bias"}


def test_trap_counts_come_from_the_root_not_from_the_nested_model(tiny):
    plan = plan_of(tiny, phase("patterns", train=("s1_conv/bias", "logits/.*"), freeze=(".*",)))
    apply(plan, tiny)
    assert count(plan, tiny).stages["stage1"]["trainable"] == {"weights": 1, "parameters": 4}
    assert {v.path for v in tiny.model.trainable_weights} == {
        "s1_conv/bias", "logits/kernel", "logits/bias",
    }  # fmt: skip


def test_trap_dropout_in_a_frozen_stage_is_off_while_keras_fits():
    from finetune.freezing.inventory import take_inventory

    results = []
    for dropout in (0.0, 0.9):
        inventory = take_inventory(*make_tiny(dropout))
        fit(inventory, plan_of(inventory, phase(unfreeze_depth=0)))
        results.append(values(inventory)["logits/kernel"])
    np.testing.assert_array_equal(*results)
    inventory = take_inventory(*make_tiny(0.9))
    fit(inventory, plan_of(inventory, phase(unfreeze_depth=2)))
    assert not np.array_equal(values(inventory)["logits/kernel"], results[0])


class Block(keras.layers.Layer):
    """Passes its mode on to a dropout layer, as attention layers do."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.drop = keras.layers.Dropout(0.5, seed=3)
        self.built = True

    def call(self, inputs, training=None):
        return self.drop(inputs, training=training) * self.scale


class Encoder(keras.layers.Layer):
    """Runs two blocks without passing a mode, so that they look it up in Keras' call context."""

    def build(self, shape):
        self.blocks = [Block(name=f"block{i}") for i in (1, 2)]
        for block in self.blocks:
            block.build(shape)
        self.built = True

    def call(self, inputs):
        return self.blocks[1](self.blocks[0](inputs))


def test_trap_a_held_block_does_not_put_the_one_after_it_to_sleep():
    from finetune.freezing.inventory import take_inventory

    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    encoder = Encoder(name="encoder")
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(encoder(inputs)))
    stages = [
        SimpleNamespace(name=f"stage{i}", layers=(block,)) for i, block in enumerate(encoder.blocks)
    ]
    inventory = take_inventory(model, stages)
    apply(plan_of(inventory, phase(unfreeze_depth=1)), inventory)
    before = [block.drop.seed_generator.state.numpy().tolist() for block in encoder.blocks]
    model(np.ones((2, 64), "float32"), training=True)
    after = [block.drop.seed_generator.state.numpy().tolist() for block in encoder.blocks]
    assert after[0] == before[0]  # the held one draws nothing
    assert after[1] != before[1]  # the one that trains drops


def test_release_gives_every_layer_its_call_back(tiny):
    apply(plan_of(tiny, phase(unfreeze_depth=0)), tiny)
    assert any("call" in vars(layer) for layer in tiny.layers)
    release(tiny)
    assert not any("call" in vars(layer) for layer in tiny.layers)


def test_a_layer_that_overrides_trainable_is_reported(tiny, monkeypatch):
    plan = plan_of(tiny, phase(unfreeze_depth=0))
    monkeypatch.setattr(type(tiny.model), "trainable_weights", property(lambda self: []))
    with pytest.raises(FinetuneError, match="2 that differ"):
        apply(plan, tiny)


INFOS = [
    WeightInfo("a/kernel", "stage1", 0, 9),
    WeightInfo("n/mean", "stage2", 1, 3, can_train=False, is_norm=True),
    WeightInfo("h/kernel", HEAD, 2, 6),
]


def test_every_weight_has_exactly_one_state():
    plan = make_plan(phase(unfreeze_depth=1), INFOS, ("stage1", "stage2", HEAD), ())
    assert list(plan.states) == [info.path for info in INFOS]
    assert plan.states["a/kernel"] is State.FROZEN
    assert plan.states["n/mean"] is State.UNTRAINABLE

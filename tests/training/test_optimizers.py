"""Moments survive phases and late weights start with correct bias correction: by hand-written Adam."""

import keras
import numpy as np
import pytest

from finetune.config.freeze import make_policy
from finetune.freezing.apply import apply
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.plan import make_plan
from finetune.schedule.phase import Phase
from finetune.training.optimizers import OptimizerGroups, OptimizerSettings
from tests.helpers.tiny_model import make_tiny


class HandAdam:
    """Adam for one weight, from the paper, in float64."""

    def __init__(self, value):
        self.value, self.m, self.v, self.t = value.astype("float64"), 0.0, 0.0, 0

    def step(self, gradient, rate):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        self.value = self.value - rate * m / (np.sqrt(v) + 1e-7)


def schedule(*rules):
    return [Phase(f"p{i}", 1, 0.1, make_policy(rule, "freeze")) for i, rule in enumerate(rules)]


def test_three_phases_equal_a_hand_written_adam():
    inventory = take_inventory(*make_tiny())
    phases = schedule(
        {"policy": "all"}, {"policy": "depth", "unfreeze_depth": 1}, {"policy": "stages",
         "stages": ("stage1",)}, {"policy": "none"},
    )  # fmt: skip
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    groups = OptimizerGroups(OptimizerSettings("adam"), plans, inventory)
    hand = {path: HandAdam(to_numpy(variable)) for path, variable in inventory.variables.items()}
    random = np.random.default_rng(0)
    for number, plan in enumerate(plans):
        rates = {"stage1": 0.02, "stage2": 0.03, "head": 0.1 / (number + 1)}
        apply(plan, inventory)
        inventory.model.compile(groups.for_phase(plan, rates), "mse")
        stage = {info.path: info.stage for info in inventory.infos}
        for _ in range(5):
            variables = inventory.model.trainable_weights
            gradients = [random.normal(size=v.shape).astype("float32") for v in variables]
            inventory.model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            by_id = {id(v): g for v, g in zip(variables, gradients, strict=True)}
            for path in plan.trainable:
                hand[path].step(by_id[id(inventory.variables[path])], rates[stage[path]])
    for path, variable in inventory.variables.items():
        value = to_numpy(variable)
        # Keras computes 1 - 0.999^t in float32, good to 6e-5 of each step; a wrong correction is
        # off by whole steps (0.02 and more).
        np.testing.assert_allclose(value, hand[path].value, rtol=1e-4, atol=5e-5, err_msg=path)


def test_trap_a_plain_optimizer_refuses_newly_unfrozen_weights_and_ours_takes_them():
    inventory = take_inventory(*make_tiny())
    phases = schedule({"policy": "all"}, {"policy": "none"})
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    plain = keras.optimizers.Adam(0.01)
    groups = OptimizerGroups(OptimizerSettings("adam"), plans, inventory)
    rates = dict.fromkeys(inventory.stage_names, 0.01)
    for number, plan in enumerate(plans):
        apply(plan, inventory)
        variables = inventory.model.trainable_weights
        pairs = [(keras.ops.ones_like(v), v) for v in variables]
        groups.for_phase(plan, rates).apply_gradients(pairs)
        if number == 0:
            plain.apply_gradients(pairs)
        else:
            with pytest.raises(ValueError, match="Unknown variable"):
                plain.apply_gradients(pairs)


def test_weight_decay_leaves_biases_and_norms_alone():
    inventory = take_inventory(*make_tiny())
    (plan,) = [
        make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep)
        for p in schedule({"policy": "none"})
    ]
    settings = OptimizerSettings("adamw", weight_decay=0.5)
    optimizer = OptimizerGroups(settings, [plan], inventory).for_phase(
        plan, dict.fromkeys(inventory.stage_names, 0.1)
    )
    apply(plan, inventory)
    variables = inventory.model.trainable_weights
    before = [to_numpy(v) for v in variables]
    optimizer.apply_gradients([(keras.ops.zeros_like(v), v) for v in variables])
    for variable, old in zip(variables, before, strict=True):
        factor = 0.95 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(to_numpy(variable), old * factor, 1e-5)

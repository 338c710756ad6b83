"""The weights that each policy selects, on a list of six weights without a model."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from finetune.backbones import HEAD
from finetune.errors import ConfigError
from finetune.freezing.plan import resolve
from finetune.freezing.policies.all import All
from finetune.freezing.policies.bias_only import BiasOnly
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.freezing.policies.norm_only import NormOnly
from finetune.freezing.policies.patterns import Patterns
from finetune.freezing.policies.stages import Stages
from finetune.freezing.policy import Policy, WeightInfo

INFOS = [
    WeightInfo("a/kernel", "stage1", 0, 9),
    WeightInfo("a/bias", "stage1", 0, 3, is_bias=True),
    WeightInfo("n/gamma", "stage2", 1, 3, is_norm=True),
    WeightInfo("n/beta", "stage2", 1, 3, is_norm=True, is_bias=True),
    WeightInfo("n/mean", "stage2", 1, 3, can_train=False, is_norm=True),
    WeightInfo("h/kernel", HEAD, 2, 6),
]
NAMES = ("stage1", "stage2", HEAD)


@dataclass(frozen=True)
class Elsewhere(Policy):
    """Select a weight that no model has."""

    name: ClassVar[str] = "elsewhere"

    def select(self, weights, stage_names, where):
        return {"nowhere"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Depth(0), {"h/kernel"}),
        (Depth(1), {"n/gamma", "n/beta", "h/kernel"}),
        (Stages(("stage1",)), {"a/kernel", "a/bias", "h/kernel"}),
        (BiasOnly(), {"a/bias", "n/beta", "h/kernel"}),
        (NormOnly(), {"n/gamma", "n/beta", "h/kernel"}),
        (All(), {"h/kernel"}),
        (NothingFrozen(), {"a/kernel", "a/bias", "n/gamma", "n/beta", "h/kernel"}),
        (Patterns(train=("a/.*",), freeze=(".*",)), {"a/kernel", "a/bias"}),
    ],
)
def test_policies(policy, expected):
    assert resolve(policy, INFOS, NAMES, "x") == expected


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Depth(3), r"x\.unfreeze_depth must be 0\.\.2 .*Received: 3"),
        (Stages(("stag1",)), "Did you mean stage1"),
        (Patterns(train=("b/.*",), freeze=(".*",)), r"b/\.\*, which matches no"),
        (Patterns(train=(".*",), freeze=("a/.*",)), "two rules disagree"),
        (Elsewhere(), "which selects nowhere. Return paths of the weights that select"),
        (Patterns(train=("a/.*",)), "leave 3 without a rule"),
        (Patterns(freeze=(".*",)), "something to train"),
    ],
)
def test_policies_refuse(policy, message):
    with pytest.raises(ConfigError, match=message):
        resolve(policy, INFOS, NAMES, "x")


def test_only_weights_that_can_train_are_selected():
    assert "n/mean" in Stages(("stage2",)).select(INFOS, NAMES, "x")
    assert "n/mean" not in resolve(Stages(("stage2",)), INFOS, NAMES, "x")


def test_a_depth_names_the_stages_that_run_several_times():
    infos = [WeightInfo("a/kernel", "stage1", 0, 9, uses=12), WeightInfo("h/kernel", HEAD, 1, 6)]
    with pytest.raises(ConfigError, match="it runs stage1 12 times with the same weights"):
        Depth(2).select(infos, ("stage1", HEAD), "x")


def test_without_an_own_text_a_policy_shows_its_name_and_its_keys():
    assert [str(policy) for policy in (Depth(2), Stages(("a", "b")), NothingFrozen())] == [
        "depth(2)", "stages(a, b)", "none",
    ]  # fmt: skip

"""Policies of plug-ins whose code raises."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

import finetune
from finetune.config import entry_points
from finetune.config.freeze import check_freeze, make_policy
from finetune.errors import ConfigError
from finetune.freezing.plan import resolve
from tests.helpers.plugins import installer


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def test_a_policy_that_raises_is_named():
    @finetune.policy("failing")
    @dataclass(frozen=True)
    class Failing(finetune.Policy):
        """Fail."""

        name: ClassVar[str] = "failing"
        early: bool = False

        def problems(self, where):
            return [1 / 0] if self.early else []

        def select(self, weights, stage_names, where):
            return None

    said = (
        f"freeze.policy must be a freeze policy that works. Received: failing of {__name__}, which"
    )
    (problem,) = check_freeze({"policy": "failing", "early": True}, "freeze")
    assert problem == (
        f"{said} raised ZeroDivisionError: division by zero (line 32 of test_plugin_policies.py). "
        "Correct what is registered."
    )
    policy = make_policy({"policy": "failing"}, "freeze")
    weights = [finetune.WeightInfo("kernel", "head", 0, 4)]
    with pytest.raises(ConfigError, match=f"{said} raised TypeError: 'NoneType'"):
        resolve(policy, weights, ("head",), "freeze")

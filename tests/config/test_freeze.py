"""The `freeze` mapping of a phase becomes a policy, also one that the program does not hold itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from finetune.config import freeze, plugins
from finetune.config.compose import compose_config
from finetune.config.freeze import (
    as_mapping,
    check_freeze,
    description,
    known_keys,
    make_policy,
    type_of_key,
    unset,
)
from finetune.config.overrides import keep_text
from finetune.config.read import read
from finetune.errors import ConfigError
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.patterns import Patterns
from finetune.freezing.policies.stages import Stages
from finetune.freezing.policy import Policy, with_head
from tests.helpers.plugins import installer

WHERE = "schedule.phases.head.freeze"


@dataclass(frozen=True)
class Every(Policy):
    """Train every `step`-th weight of the backbone.

    Args:
        step: Distance between two weights that train.
    """

    name: ClassVar[str] = "every"
    step: int
    share: float = 0.5
    loud: bool = False
    tags: tuple[str, ...] = ()
    offset: int | None = None

    def problems(self, where):
        return [f"{where}.step must be above 0. Received: {self.step}."] if self.step < 1 else []

    def select(self, weights, stage_names, where):
        return with_head(weights, lambda weight: weight.layer % self.step == 0)


@dataclass(frozen=True)
class Top(Every):
    """Train the last stages: a key that another policy has as a list."""

    name: ClassVar[str] = "top"
    step: int = 1
    stages: int = 2


@pytest.fixture
def every(monkeypatch):
    monkeypatch.setitem(plugins._registered, "policies", {})
    plugins.register("policies", "every", Every)
    plugins.register("policies", "top", Top)


@pytest.mark.parametrize(
    ("freeze", "policy", "text"),
    [
        ({"policy": "depth", "unfreeze_depth": 0}, Depth(0), "depth(0)"),
        ({"policy": "stages", "stages": ["a", "b"]}, Stages(("a", "b")), "stages(a, b)"),
        ({"policy": "patterns", "train": [".*"]}, Patterns((".*",)), "patterns(1 train, 0 freeze)"),
    ],
)
def test_a_mapping_is_a_policy_and_back(freeze, policy, text):
    made = make_policy(unset() | freeze, WHERE)
    assert made == policy
    assert str(made) == text
    assert as_mapping(made) == freeze


def test_the_modules_of_the_package_are_the_policies():
    import finetune.freezing.policies as package

    files = {file.stem for file in Path(package.__file__).parent.glob("[!_]*.py")}
    assert set(plugins.built_in("policies")) == files and len(files) >= 7
    for name in plugins.built_in("policies"):
        assert description(name).endswith("."), name
    assert known_keys()[0] == "policy"


def test_a_policy_of_another_package_is_read_like_the_own(every):
    config = read(
        compose_config(
            [f"{WHERE}={{policy: every, unfreeze_depth: null, step: 2, share: 1, tags: [1e3]}}",
             f"{WHERE}.loud=on", f"{WHERE}.step=3"]
        )
    )  # fmt: skip
    given = config.schedule.phases["head"].freeze
    made = make_policy(given, WHERE)
    assert made == Every(3, share=1.0, loud=True, tags=("1e3",))
    assert as_mapping(made) == {
        "policy": "every", "step": 3, "share": 1.0, "loud": True, "tags": ["1e3"],
    }  # fmt: skip
    assert str(made) == "every(step=3; share=1.0; loud=True; tags=1e3)"
    assert keep_text(f"{WHERE}.tags=[1e3]") == f'{WHERE}.tags=["1e3"]'
    assert type_of_key("step") == int | None
    assert "step" not in known_keys() and "step" not in unset()  # other runs are saved as before


def test_the_policy_decides_the_type_of_a_key_that_several_have(every):
    config = read(
        compose_config([f"{WHERE}={{policy: top, unfreeze_depth: null}}", f"{WHERE}.stages=3"])
    )
    assert make_policy(config.schedule.phases["head"].freeze, WHERE) == Top(stages=3)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("{policy: evry}", "policy must be a freeze policy. Received: evry."),
        ("{policy: every}", f"{WHERE}.step must be set for policy every. Received: nothing."),
        ("{policy: every, step: 0}", "step must be above 0. Received: 0."),
        ("{policy: every, step: x}", "step must have the right type. Received: x. It is a whole"),
        ("{policy: every, stepp: 1}", f"{WHERE}.stepp must be a key of the config. Received: stepp."),
        ("{policy: every, stepp: 1}", "Did you mean step?"),
        ("{policy: every, stages: [a]}", f"Set {WHERE}.stages=null, or {WHERE}.policy=stages."),
        ("{policy: depth, step: 1}", "policy depth does not use it, and two rules would disagree. Received: 1. "
         f"Set {WHERE}.step=null, or {WHERE}.policy=every."),
        ("{policy: top, stages: x}", f"{WHERE}.stages must have the right type. Received: x. It is "
         "a whole number, or null."),
        ("{policy: {a: 1}}", f"{WHERE}.policy must have the right type"),
        ("{policy: '???'}", f"{WHERE}.unfreeze_depth must be set for policy depth"),
        ("{policy: '${nope}'}", f"{WHERE}.policy must have the right type"),
        ("big", f"Received: big. Write {WHERE}={{policy: big}}, with the keys of the policy."),
        ("3", f"{WHERE} must be a mapping of a policy's name and its keys. Received: 3. Write"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(every, freeze, message):
    from omegaconf import OmegaConf

    phase = f"{{epochs: 1, learning_rate: 1, freeze: {freeze}}}"
    node = OmegaConf.create(f"{{backbone: {{preset: a}}, schedule: {{phases: {{head: {phase}}}}}}}")
    with pytest.raises(ConfigError) as refused:
        read(node)
    assert message in "\n".join(refused.value.problems)


def test_a_value_of_the_wrong_type_is_not_also_called_missing(every):
    with pytest.raises(ConfigError) as refused:
        read(compose_config([f"{WHERE}={{policy: every, unfreeze_depth: null, step: x}}"]))
    (problem,) = refused.value.problems
    assert problem.startswith(f"{WHERE}.step must have the right type. Received: x.")


def test_a_package_that_takes_the_name_of_a_policy_stops_no_other_run(tmp_path, monkeypatch):
    install = installer(tmp_path, monkeypatch)
    install("acme", "1.2", "[finetune.policies]\ndepth = acme:Depth\n")
    freeze._built_in_keys.cache_clear()
    assert {"unfreeze_depth", "train", "stages"} <= unset().keys()
    assert (
        read(compose_config(["schedule=full"])).schedule.phases["full"].freeze["policy"] == "none"
    )
    with pytest.raises(ConfigError) as refused:
        read(compose_config([]))
    (problem,) = refused.value.problems
    assert "Received: depth, which finetune and acme 1.2 both offer." in problem


def test_a_key_that_hides_the_name_of_the_policy_is_refused(monkeypatch):
    @dataclass(frozen=True)
    class Hiding(Every):
        name: ClassVar[str] = "hiding"
        step: int = 1
        policy: str = "a"

    monkeypatch.setitem(plugins._registered, "policies", {})
    plugins.register("policies", "hiding", Hiding)
    (problem,) = check_freeze({"policy": "hiding"}, WHERE)
    assert "its key policy would hide the name of the policy. Change this field" in problem
    assert not list(check_freeze({"policy": "all"}, WHERE))


def test_a_policy_itself_is_no_mapping():
    from omegaconf import OmegaConf

    phase = {"epochs": 1, "learning_rate": 1.0, "freeze": Every(2)}
    node = OmegaConf.create({"backbone": {"preset": "a"}, "schedule": {"phases": {"head": phase}}})
    with pytest.raises(ConfigError) as refused:
        read(node)
    problems = [text for text in refused.value.problems if text.startswith(WHERE)]
    assert problems == [
        f"{WHERE} must be a mapping of a policy's name and its keys. Received: an object of Every. "
        f"Write {WHERE}={{policy: NAME}}, with the keys of the policy."
    ]


def test_mistakes_are_reported_together(every):
    freeze = {"policy": "patterns", "train": ["("], "freeze": ["("], "step": 1, "stages": ["a"]}
    assert len(list(check_freeze(freeze, WHERE))) == 5


def test_a_policy_under_another_name_is_refused(monkeypatch):
    monkeypatch.setitem(plugins._registered, "policies", {})
    plugins.register("policies", "other", Every)
    (problem,) = check_freeze({"policy": "other"}, WHERE)
    assert problem == (
        f"{WHERE}.policy must be a policy whose class states this name. Received: other of "
        f"{__name__}, whose class has name = 'every'. Write name: ClassVar[str] = 'other' in the "
        "class."
    )


@pytest.mark.parametrize("kind", [dict, Path, tuple[int, str], int | str, "NoSuchType"])
def test_a_key_that_no_config_can_hold_is_refused(monkeypatch, kind):
    monkeypatch.setitem(plugins._registered, "policies", {})
    odd = dataclass(frozen=True)(
        type("Odd", (Every,), {"name": "odd", "__annotations__": {"step": kind}, "step": None})
    )
    plugins.register("policies", "odd", odd)
    (problem,) = check_freeze({"policy": "odd"}, WHERE)
    assert "whose keys are int, float, bool, str or a tuple of these. Received: odd of" in problem
    assert type_of_key("share") is None  # a broken policy has no keys, and is in nobody's way
    assert not list(check_freeze({"policy": "all"}, WHERE))

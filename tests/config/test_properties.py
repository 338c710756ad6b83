"""Whatever a config says, it is refused by name or it gives a total plan: nothing else happens."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf, open_dict

from finetune.backbones import HEAD
from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.config.schema import PhaseConfig, ScheduleConfig
from finetune.config.values import MAX_INT
from finetune.errors import ConfigError
from finetune.freezing.plan import State, make_plan
from finetune.freezing.policies.all import All
from finetune.freezing.policies.bias_only import BiasOnly
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.freezing.policies.norm_only import NormOnly
from finetune.freezing.policies.patterns import Patterns
from finetune.freezing.policies.stages import Stages
from finetune.freezing.policy import WeightInfo
from finetune.freezing.upkeep import Upkeep
from finetune.schedule.expand import as_config, expand
from finetune.schedule.phase import Phase

settings.register_profile("properties", derandomize=True, deadline=None, max_examples=150)
PROPERTIES = settings.get_profile("properties")

STAGES = ("stem", "stage1", "stage2")
NAMES = st.sampled_from([*STAGES, HEAD, "stage9", "", "stage[12]"])
PATTERNS = st.sampled_from(
    [".*", "", "stem/.*", ".*/w0", f"{HEAD}/.*", "nothing", "stem/w0", "(?i)STEM.*", "a{9}"]
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([0.5, 1e-3, 0.0, -1.0, float("nan"), float("inf"), 2**64, -(2**64), 10**400]),
)


@st.composite
def inventories(draw):
    """A few weights in each stage, some of which may not train; stages may be empty."""
    infos, layer = [], 0
    for stage in (*STAGES, HEAD):
        for number in range(draw(st.integers(0, 3))):
            layer += draw(st.integers(0, 1))
            infos.append(
                WeightInfo(
                    path=f"{stage}/w{number}",
                    stage=stage,
                    layer=layer,
                    parameters=draw(st.integers(0, 9)),
                    can_train=draw(st.booleans()),
                    is_bias=draw(st.booleans()),
                    is_norm=draw(st.booleans()),
                    uses=draw(st.integers(1, 3)),
                )
            )
        layer += 1
    return infos


TEXTS = st.lists(PATTERNS, max_size=3).map(tuple)
POLICIES = st.one_of(
    st.builds(Depth, unfreeze_depth=st.integers(-1, 5)),
    st.builds(Stages, stages=st.lists(NAMES, max_size=3).map(tuple)),
    st.builds(Patterns, train=TEXTS, freeze=TEXTS),
    st.sampled_from([BiasOnly(), NormOnly(), All(), NothingFrozen()]),
)


def statistics(infos):
    """Every layer that has weights that cannot train writes to them, as a BatchNorm does."""
    layers = {}
    for info in infos:
        layers.setdefault((info.layer, info.stage), []).append(info)
    return [
        Upkeep(
            layer, f"layer{layer}", stage,
            writes=tuple(info.path for info in members if not info.can_train),
            learns=tuple(info.path for info in members if info.can_train),
        )
        for (layer, stage), members in layers.items()
        if not all(info.can_train for info in members)
    ]  # fmt: skip


@settings(PROPERTIES)
@given(inventories(), POLICIES, st.sampled_from(["inference", "train"]))
def test_a_plan_is_total_or_refused(infos, policy, batch_norm):
    upkeep = statistics(infos)
    phase = Phase("a", 1, 0.1, policy, batch_norm=batch_norm)
    try:
        plan = make_plan(phase, infos, (*STAGES, HEAD), upkeep)
    except ConfigError as error:
        assert all(problem.startswith("schedule.phases.a.freeze") for problem in error.problems)
        return
    by_path = {info.path: info for info in infos}
    assert list(plan.states) == list(by_path)
    assert plan.trainable
    for path, state in plan.states.items():
        info = by_path[path]
        assert (state is State.UNTRAINABLE) == (not info.can_train)
        assert (path in plan.trainable) == (state is State.TRAINABLE)
        if state is State.FROZEN:
            assert path in plan.held_weights
        if state is State.TRAINABLE:
            assert path not in plan.held_weights and info.stage not in plan.inactive_stages
        if policy.name != "patterns" and info.stage == HEAD and info.can_train:
            assert state is State.TRAINABLE
    assert set(plan.held_weights) <= set(by_path)
    for writer in upkeep:
        written = set(writer.writes)
        if writer.layer in plan.held_layers:
            assert written <= set(plan.held_weights)
        else:
            assert writer.stage == HEAD or batch_norm == "train"
            assert not written & set(plan.held_weights)


@settings(PROPERTIES)
@given(inventories(), st.integers(0, 3))
def test_more_depth_trains_more(infos, depth):
    def trains(depth):
        try:
            phase = Phase("a", 1, 0.1, Depth(depth))
            return make_plan(phase, infos, (*STAGES, HEAD), ()).trainable
        except ConfigError:
            return frozenset()

    assert all(trains(n) <= trains(n + 1) for n in range(depth))


SCHEDULES = st.builds(
    ScheduleConfig,
    phases=st.dictionaries(
        st.sampled_from(["head", "a", "stage2", "b.c", ""]),
        st.builds(
            PhaseConfig,
            epochs=st.integers(1, 3),
            learning_rate=st.sampled_from([1e-3, 1, 0.5]),
            solver=st.sampled_from(["gradient", "lbfgs"]),
            patience=st.one_of(st.none(), st.integers(1, 3)),
            freeze=st.fixed_dictionaries(
                {"policy": st.sampled_from(["depth", "all", "none", "stages"])},
                optional={
                    "unfreeze_depth": st.one_of(st.none(), st.integers(0, 3)),
                    "stages": st.one_of(st.none(), st.lists(NAMES, max_size=2)),
                },
            ),
        ),
        max_size=3,
    ),
    from_depth=st.one_of(st.none(), st.integers(0, 5)),
    to_depth=st.one_of(st.none(), st.integers(0, 5)),
    epochs_per_phase=st.integers(1, 3),
    stage_lr_decay=st.sampled_from([1.0, 0.5]),
)


@settings(PROPERTIES)
@given(SCHEDULES, st.integers(0, 3))
def test_a_schedule_expands_in_order_or_is_refused(schedule, num_stages):
    names = (*STAGES[:num_stages], HEAD)
    try:
        phases = expand(schedule, names)
    except ConfigError as error:
        assert all(problem.startswith("schedule.") for problem in error.problems)
        return
    assert [phase.name for phase in phases][: len(schedule.phases)] == list(schedule.phases)
    assert len({phase.name for phase in phases}) == len(phases)
    generated = phases[len(schedule.phases) :]
    depths = [phase.policy.unfreeze_depth for phase in generated]
    last = num_stages if schedule.to_depth is None else schedule.to_depth
    first = schedule.from_depth
    assert depths == ([] if first is None else list(range(first, last + 1)))
    for phase in phases:
        rates = phase.stage_rates(names)
        assert list(rates.values()) == sorted(rates.values(), reverse=True)[:1] + sorted(
            list(rates.values())[1:], reverse=True
        )
        assert max(rates.values()) == rates[HEAD] == phase.learning_rate
    explicit = as_config(phases)["phases"]
    assert list(explicit) == [phase.name for phase in phases]


def paths_of(node, where=()):
    for key, value in node.items():
        yield (*where, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*where, key))


def composed():
    config = compose_config(["schedule=progressive"])
    with open_dict(config):
        del config["hydra"]
    return OmegaConf.to_container(config)


COMPOSED = composed()
PATHS = sorted(paths_of(COMPOSED))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        st.text(max_size=4),
        st.sampled_from(["???", "${seed}", "${nope}", "${", "${oc.env:NOPE}", "auto", "\0", "\ud800", "1e3"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["epochs", "head", "freeze", "x", "", "a b", "é"]), inner, max_size=2),
    ),
    max_leaves=4,
)  # fmt: skip


@settings(PROPERTIES, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
def test_any_value_in_any_key_is_a_config_or_a_config_error(changes):
    content = copy.deepcopy(COMPOSED)
    for path, value in changes:
        node = content
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[path[-1]] = value
    try:
        node = OmegaConf.create(content)
    except Exception as error:  # OmegaConf's own grammar, before anything is read
        assert "grammar" in type(error).__name__.lower(), error
        return
    try:
        config = read(node)
    except ConfigError as error:
        assert error.problems
        assert all(re.match(r"\S.* must ", problem, re.DOTALL) for problem in error.problems)
        return
    assert 1 <= config.dataset.batch_size <= MAX_INT
    assert all(isinstance(phase, PhaseConfig) for phase in config.schedule.phases.values())
    for _name, phase in config.schedule.phases.items():
        assert 1 <= phase.epochs <= MAX_INT and 0 < phase.learning_rate < float("inf")
    try:
        expand(config.schedule, (*STAGES, HEAD))
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_key_refuses_what_it_is_not(path):
    content = copy.deepcopy(COMPOSED)
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = [{"no": ["such"]}]
    with pytest.raises(ConfigError, match=re.escape(".".join(path))):
        read(OmegaConf.create(content))

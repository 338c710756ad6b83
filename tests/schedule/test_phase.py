"""Schedules expand to phases that can be saved and used again."""

import pytest

from finetune.config.schema import FreezeConfig, PhaseConfig, ScheduleConfig
from finetune.errors import ConfigError
from finetune.freezing.policies import FreezeRule
from finetune.schedule.phase import as_config, expand

NAMES = ("stem", "stage1", "stage2", "head")


def schedule(**keys):
    head = PhaseConfig(epochs=3, learning_rate=0.1, freeze=FreezeConfig("depth", 0))
    return ScheduleConfig(phases={"head": head}, **keys)


def test_a_range_expands_to_a_phase_for_each_depth():
    phases = expand(schedule(from_depth=1, epochs_per_phase=4, stage_lr_decay=0.5), NAMES)
    assert [(p.name, p.epochs, p.rule) for p in phases] == [
        ("head", 3, FreezeRule("depth", 0)),
        ("stage2", 4, FreezeRule("depth", 1)),
        ("stage1", 4, FreezeRule("depth", 2)),
        ("stem", 4, FreezeRule("depth", 3)),
    ]
    assert phases[3].stage_rates(NAMES) == {
        "head": 1e-3, "stage2": 1e-3, "stage1": 5e-4, "stem": 2.5e-4,
    }  # fmt: skip


def test_the_expanded_schedule_reads_back_to_the_same_phases():
    phases = expand(schedule(from_depth=1, to_depth=2), NAMES)
    saved = as_config(phases)["phases"]
    explicit = {
        name: PhaseConfig(**{**each, "freeze": FreezeConfig(**each["freeze"])})
        for name, each in saved.items()
    }
    assert expand(ScheduleConfig(phases=explicit), NAMES) == phases


def test_a_range_beyond_the_backbone_is_refused():
    with pytest.raises(ConfigError, match=r"within 0\.\.3 .*Received: 1\.\.7"):
        expand(schedule(from_depth=1, to_depth=7), NAMES)


def test_a_generated_name_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match=r"schedule\.phases\.head must have another name"):
        expand(schedule(from_depth=0), NAMES)

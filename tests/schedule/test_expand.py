"""Schedules expand to phases that can be saved and used again."""

from dataclasses import fields

import pytest

from finetune.config.schema import PhaseConfig, PhaseKeys, ScheduleConfig
from finetune.errors import ConfigError
from finetune.freezing.policies.depth import Depth
from finetune.schedule.expand import as_config, expand

NAMES = ("stem", "stage1", "stage2", "head")


def schedule(**keys):
    freeze = {"policy": "depth", "unfreeze_depth": 0}
    head = PhaseConfig(epochs=3, learning_rate=0.1, freeze=freeze)
    return ScheduleConfig(phases={"head": head}, **keys)


def test_a_range_expands_to_a_phase_for_each_depth():
    phases = expand(schedule(from_depth=1, epochs_per_phase=4, stage_lr_decay=0.5), NAMES)
    assert [(phase.name, phase.epochs, phase.policy) for phase in phases] == [
        ("head", 3, Depth(0)),
        ("stage2", 4, Depth(1)),
        ("stage1", 4, Depth(2)),
        ("stem", 4, Depth(3)),
    ]
    assert phases[3].stage_rates(NAMES) == {
        "head": 1e-3, "stage2": 1e-3, "stage1": 5e-4, "stem": 2.5e-4,
    }  # fmt: skip


def test_every_key_of_a_phase_reaches_the_phases():
    """A key that `expand` forgot would stand at its default here."""
    given = {"batch_norm": "train", "stage_lr_decay": 0.5, "patience": 2, "restore_best": True,
             "monitor": "accuracy"}  # fmt: skip
    assert given.keys() == {key.name for key in fields(PhaseKeys)}
    freeze = {"policy": "stages", "stages": ["stem"]}
    explicit = PhaseConfig(epochs=3, learning_rate=1, freeze=freeze, solver="gradient", **given)
    config = ScheduleConfig(phases={"low": explicit}, from_depth=3, learning_rate=1, **given)
    for phase in expand(config, NAMES):
        assert {key: getattr(phase, key) for key in given} == given
        assert phase.learning_rate == 1.0


def test_the_expanded_schedule_reads_back_to_the_same_phases():
    phases = expand(schedule(from_depth=1, to_depth=2), NAMES)
    saved = as_config(phases)["phases"]
    assert saved["stage2"]["freeze"] == {"policy": "depth", "unfreeze_depth": 1}
    explicit = {name: PhaseConfig(**phase) for name, phase in saved.items()}
    assert expand(ScheduleConfig(phases=explicit), NAMES) == phases


def test_a_range_beyond_the_backbone_is_refused():
    with pytest.raises(ConfigError, match=r"within 0\.\.3 .*Received: 1\.\.7"):
        expand(schedule(from_depth=1, to_depth=7), NAMES)


def test_a_generated_name_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match=r"schedule\.phases\.head must have another name"):
        expand(schedule(from_depth=0), NAMES)

"""Learning rates fall from the topmost stage to the lowest one."""

from finetune.schedule.rates import stage_rates


def test_the_head_and_the_topmost_stage_have_the_rate_of_the_phase():
    assert stage_rates(0.4, 0.5, ("stem", "low", "top", "head")) == {
        "stem": 0.1, "low": 0.2, "top": 0.4, "head": 0.4,
    }  # fmt: skip


def test_a_backbone_without_stages_leaves_the_head():
    assert stage_rates(0.4, 0.5, ("head",)) == {"head": 0.4}

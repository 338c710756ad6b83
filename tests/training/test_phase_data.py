"""The data of a phase: the examples themselves, or stored features of them."""

from finetune.features.graph import Part
from finetune.training.phase_data import SamePhaseData, phase_data
from tests.helpers.feature_runs import BATCHES, build, make_source, progressive


def silent(what, done, total): ...


def test_examples_are_the_data_of_a_phase_without_stored_features():
    built = build()
    del built.examples["test"]
    data = phase_data(built.inventory.model, built.examples, BATCHES)
    assert data.num_steps == 3  # 22 rows in batches of 8
    assert data.training(0, 2, skip=1).cardinality() == 2 * 3 - 1
    assert data.validation().cardinality() == 2  # 10 rows
    assert data.test is None and not data.stored and data.record == {"cached": False}
    source = SamePhaseData(data)
    assert source.open(0, silent) is source.open(5, silent) is data
    assert source.decisions() == [] and source.decided() == {}


def test_stored_features_come_with_the_part_above_the_cut(tmp_path):
    source = make_source(build(), progressive(0, 1), tmp_path)
    probe, deeper = source.open(0, silent), source.open(1, silent)
    for data in (probe, deeper):
        assert isinstance(data.model, Part) and data.num_steps == 3
        assert data.record["cached"] and set(data.stored) >= {"train", "validation"}
    # A linear head runs an epoch in one call, and only the last phase reads the test split.
    assert probe.head is not None and probe.steps_per_execution == 3 and probe.test is None
    assert deeper.head is None and deeper.steps_per_execution == 1 and deeper.test is not None
    assert [decision.stored for decision in source.decided().values()] == [True, True]


def test_features_that_are_not_stored_still_standardise_the_head(tmp_path):
    built = build()
    data = make_source(built, progressive(0), tmp_path, "never").open(0, silent)
    assert data.model is built.inventory.model and not data.stored
    assert sum(len(features) for features in data.head_features()) == 22
    assert data.record == {"cached": False, "reason": "features.cache=never"}

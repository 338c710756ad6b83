"""The events of a record and their epochs, worked out by hand."""

from dataclasses import asdict

from finetune.config.schema import Config, PhaseConfig, ScheduleConfig
from finetune.reporting.trackers.story import flatten, hyperparameters, story
from tests.helpers.records import two_phases


def test_events_come_in_the_order_of_the_run():
    events = list(story(two_phases()))
    assert [(event.kind, event.number, event.step) for event in events] == [
        ("begun", 0, 0), ("epochs", 0, 0), ("epochs", 1, 1), ("epochs", 2, 2), ("ended", 0, 2),
        ("begun", 1, 3), ("epochs", 3, 3),
    ]  # fmt: skip
    begun, epoch, ended = events[0].values, events[1].values, events[4].values
    assert begun["counts/trainable_parameters"] == 2
    assert begun["stages/stem/frozen_weights"] == 1
    assert begun["learning_rate/head"] == 0.1
    assert epoch == {
        "phase": 1, "loss/train": 1.0, "accuracy/train": 0.5, "epoch_seconds/train": 2.0,
        "loss/validation": 1.0, "accuracy/validation": 0.5, "epoch_seconds/validation": 2.0,
    }  # fmt: skip
    assert ended["weight_change/head"] == 0.5
    assert (ended["proof/weights_checked"], ended["proof/weights_changed"]) == (1, 0)


def test_only_a_completed_run_has_a_result():
    record = two_phases()
    before = list(story(record))
    record.status = "completed"
    *same, result = story(record)
    assert same == before
    assert (result.kind, result.step) == ("result", 4)
    assert result.values["accuracy/test"] == 0.25
    assert result.values["seconds/total"] == 1.0


def test_hyperparameters_are_the_values_that_affect_the_result():
    config = Config()
    phases = {"head": PhaseConfig(epochs=3, learning_rate=0.1)}
    config.schedule = ScheduleConfig(phases=phases)
    config.backbone.path = config.dataset.path = "/somewhere"
    found = hyperparameters(asdict(config))
    assert found["schedule.phases.head.epochs"] == 3
    assert found["dataset.batch_size"] == 32
    assert found["seed"] == 0
    assert found["backbone.load_weights"] is True
    assert not [key for key in found if "path" in key or key.startswith(("trackers", "features"))]
    assert "schedule.epochs_per_phase" not in found  # belongs to a range that is not set
    config.schedule = ScheduleConfig(phases=phases, from_depth=1)
    assert hyperparameters(asdict(config))["schedule.epochs_per_phase"] == 2


def test_values_are_flat_and_text_is_printable():
    assert flatten({"a": {"b": None, "c": ["x", 1]}, "d\n": "e\x1b"}) == {
        "a.c": "x, 1", "d\\n": "e\\x1b",
    }  # fmt: skip


def test_another_monitored_metric_is_plotted_by_epoch():
    record = two_phases()
    record.phases[0].monitor, record.phases[0].monitored = "auroc", [0.5, None, 0.75]
    epochs = [event.values for event in story(record) if event.kind == "epochs"]
    assert [values.get("auroc/validation") for values in epochs] == [0.5, None, 0.75, None]

"""When a checkpoint is due, and what happens to one whose weights may be spoilt."""

import inspect

import pytest

from finetune.training import checkpointer
from finetune.training.checkpointer import Checkpointer, NoCheckpointer
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import Position, ResumePoint, RunState, resume_point
from tests.helpers.tiny_training import tiny_record


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    ticking = Clock()
    monkeypatch.setattr(checkpointer, "time", ticking)
    return ticking


@pytest.fixture
def checkpoints(tmp_path, clock):
    found = Checkpoints(tmp_path)
    found.saved = clock.now
    return found


def state():
    return RunState(Position(), None, {}, tiny_record())


def snapshot():
    return state(), {}


def test_within_an_epoch_the_minutes_decide(checkpoints, clock):
    assert not Checkpointer(checkpoints).due_in_epoch()
    every_two = Checkpointer(checkpoints, minutes=2)
    clock.now += 119
    assert not every_two.due_in_epoch()
    clock.now += 1
    assert every_two.due_in_epoch()
    assert Checkpointer(checkpoints, minutes=0.0).due_in_epoch()


def test_after_an_epoch_saving_takes_at_most_a_tenth_of_the_time(checkpoints, clock):
    kept = Checkpointer(checkpoints)
    clock.now += 0.4
    assert not kept.due_after_epoch()  # shorter than the half second that a record waits
    clock.now += 0.2
    assert kept.due_after_epoch()
    checkpoints.seconds = 0.1
    assert not kept.due_after_epoch()
    clock.now += 0.4
    assert kept.due_after_epoch()


def test_a_checkpoint_whose_loss_was_never_seen_is_set_aside(tmp_path):
    kept = Checkpointer(Checkpoints(tmp_path))
    kept.save(snapshot)
    kept.set_unseen_aside()
    kept.save(snapshot, unseen=True)
    kept.loss_seen()
    kept.set_unseen_aside()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]
    kept.save(snapshot, unseen=True)
    kept.set_unseen_aside()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000003.spoilt"]


@pytest.mark.parametrize(("step", "left"), [(0, "000001"), (2, "000001.spoilt")])
def test_a_checkpoint_within_an_epoch_is_unseen_when_a_run_resumes(tmp_path, step, left):
    checkpoints = Checkpoints(tmp_path)
    Checkpointer(checkpoints).save(snapshot)
    found = checkpoints.latest(resume_point)
    resumed = RunState(Position(step=step), None, {}, found.state.record)
    Checkpointer(checkpoints, None, ResumePoint(resumed, {}, None, found.path)).set_unseen_aside()
    assert [path.name for path in tmp_path.iterdir()] == [left]


def test_only_a_run_that_resumes_with_another_config_writes_it(tmp_path):
    written = []
    checkpoints = Checkpoints(tmp_path)
    point = ResumePoint(state(), {})
    assert not Checkpointer(checkpoints, None, point).save_changed_config()
    assert not Checkpointer(
        checkpoints, save_config=lambda: written.append(1)
    ).save_changed_config()
    assert written == []
    assert Checkpointer(checkpoints, None, point, lambda: written.append(1)).save_changed_config()
    assert written == [1]


def test_the_twin_has_every_method_and_writes_nothing():
    def public(kind):
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(NoCheckpointer) == public(Checkpointer)
    twin = NoCheckpointer()

    def never():
        raise AssertionError("the twin needs no snapshot")

    twin.save(never, 1.0, unseen=True)
    twin.loss_seen()
    twin.set_unseen_aside()
    assert twin.resume_point is None
    assert not (twin.due_in_epoch() or twin.due_after_epoch() or twin.save_changed_config())

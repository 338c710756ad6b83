"""What the progress of a run records of an epoch, and how it scores checkpoints."""

import pytest

from finetune.errors import NotFiniteError
from finetune.freezing.inventory import take_inventory
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.record.listener import Listener
from finetune.schedule.phase import Phase
from finetune.training.progress import RunProgress
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny
from tests.helpers.tiny_training import tiny_record, tiny_setup

PROBE = Depth(0)


class Kept:
    """A checkpointer that keeps the scores it is given."""

    resume_point = None

    def __init__(self, due=True):
        self.scores, self.due = [], due

    def due_in_epoch(self):
        return False

    def due_after_epoch(self):
        return self.due

    def save(self, snapshot, score=None, *, unseen=False):
        snapshot()
        self.scores.append(score)

    def loss_seen(self): ...

    def set_unseen_aside(self): ...

    def save_changed_config(self):
        return False


class Rows(Listener):
    """Keeps the rows of every epoch."""

    def __init__(self):
        self.rows = []

    def epoch_ended(self, record, phase, rows):
        self.rows += rows


def trained(phases, kept):
    listener, record = Rows(), tiny_record()
    setup = tiny_setup(take_inventory(*make_tiny()), phases)
    Trainer(setup, record, listener, kept).run()
    return record, listener.rows


def test_epochs_count_in_the_phase_and_in_the_run_and_the_last_needs_no_checkpoint_of_its_own():
    kept = Kept()
    record, rows = trained([Phase("a", 2, 0.1, PROBE), Phase("b", 1, 0.05, PROBE)], kept)
    assert record.history == rows
    validation = [row for row in rows if row.split == "validation"]
    assert [(row.phase_name, row.epoch, row.global_epoch) for row in validation] == [
        ("a", 0, 0), ("a", 1, 1), ("b", 0, 2),
    ]  # fmt: skip
    assert [row.learning_rate for row in validation] == [0.1, 0.1, 0.05]
    # At the start, after the first epoch of a, after a, and after b.
    assert kept.scores == [None, *(-row.loss for row in validation)]
    assert {"startup", "training", "evaluation", "saving", "total"} <= record.seconds.keys()


@pytest.mark.parametrize(
    ("monitors", "name"),
    [(("accuracy", "accuracy"), "accuracy"), (("accuracy", "loss"), "loss")],
)
def test_checkpoints_are_scored_by_the_monitor_that_all_phases_share(monitors, name):
    kept = Kept(due=False)
    phases = [Phase(str(i), 1, 0.1, PROBE, monitor=m) for i, m in enumerate(monitors)]
    _, rows = trained(phases, kept)
    validation = [row for row in rows if row.split == "validation"]
    expected = [row.accuracy if name == "accuracy" else -row.loss for row in validation]
    assert kept.scores == [None, *expected]


def test_a_run_that_was_refused_is_not_recorded():
    record, listener = tiny_record(), Listener()
    setup = tiny_setup(take_inventory(*make_tiny()), [Phase("a", 1, 0.1, PROBE)])
    RunProgress(setup, record, listener, Kept(), 0.0).end("failed")
    assert record.status == "running"


def test_the_message_about_a_loss_names_the_place_and_a_smaller_rate():
    with pytest.raises(NotFiniteError, match=r"phase hot, epoch \d, .*rate 1e\+30") as caught:
        trained([Phase("hot", 5, 1e30, NothingFrozen())], Kept())
    assert caught.value.override == "schedule.phases.hot.learning_rate=1e+29"

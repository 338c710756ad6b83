"""Phases follow any metric of the validation split, in its own direction."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from finetune.errors import ConfigError
from finetune.evaluation.metrics import calibration_error
from finetune.freezing.inventory import take_inventory
from finetune.freezing.policies.none import NothingFrozen
from finetune.record.listener import Listener
from finetune.schedule.phase import Phase
from finetune.tasks.objective import ONE, Objective
from finetune.training import checkpointer
from finetune.training.best_epoch import BestEpoch
from finetune.training.checkpointer import Checkpointer
from finetune.training.checkpoints import Checkpoints
from finetune.training.monitor import Monitor
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny
from tests.helpers.tiny_training import IMAGES, LABELS, make_trainer, tiny_record, tiny_setup

ALL = NothingFrozen()


class Outputs(Listener):
    """Keeps the probabilities of the validation split after each epoch."""

    def __init__(self, model):
        self.model, self.probabilities = model, []

    def epoch_ended(self, record, phase, rows):
        logits = self.model.predict(IMAGES, batch_size=8, verbose=0).astype("float64")
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        self.probabilities.append(exponents / exponents.sum(1, keepdims=True))


def macro_f1(probabilities):
    return f1_score(LABELS, probabilities.argmax(1), average="macro", labels=np.unique(LABELS))


def minus_calibration_error(probabilities):
    return -calibration_error(probabilities.max(1), probabilities.argmax(1) == LABELS)


@pytest.mark.parametrize(
    ("name", "score"),
    [("macro_f1", macro_f1), ("expected_calibration_error", minus_calibration_error)],
)
def test_the_epoch_with_the_best_metric_is_restored(name, score):
    inventory = take_inventory(*make_tiny())
    listener = Outputs(inventory.model)
    phase = Phase("all", 10, 0.3, ALL, monitor=name, restore_best=True)
    trainer, record = make_trainer(inventory, [phase], listener)
    trainer.run()
    scores = [score(found) for found in listener.probabilities]
    (ran,) = record.phases
    assert np.abs(ran.monitored) == pytest.approx(np.abs(scores), abs=1e-6)
    assert ran.best_epoch == int(np.argmax(np.abs(ran.monitored) * np.sign(scores[0])))
    assert len(set(ran.monitored)) > 1  # otherwise no epoch would be the best
    restored = listener.model.predict(IMAGES, verbose=0)
    assert ran.metrics["validation"][name] == pytest.approx(ran.monitored[ran.best_epoch], abs=1e-6)
    assert restored.shape == (len(IMAGES), 3)


def test_patience_counts_epochs_without_a_better_metric():
    inventory = take_inventory(*make_tiny())
    phase = Phase("all", 40, 0.3, ALL, monitor="macro_f1", patience=3)
    trainer, record = make_trainer(inventory, [phase], Listener())
    trainer.run()
    (ran,) = record.phases
    assert ran.stopped_by == "patience"
    best = int(np.argmax(ran.monitored))
    assert ran.epochs_run == best + 1 + 3


def test_loss_and_accuracy_cost_no_other_pass():
    monitor = Monitor(Phase("head", 1, 0.1, ALL), Objective(ONE, 3), LABELS)
    assert monitor.measure(None, None) == {}  # it reads no data
    assert monitor.score(0.5) == -0.5
    accuracy = Monitor(Phase("head", 1, 0.1, ALL, monitor="accuracy"), Objective(ONE, 3), LABELS)
    assert accuracy.score(0.5) == 0.5


def test_a_metric_for_other_data_is_refused():
    phase = Phase("head", 1, 0.1, ALL, monitor="micro_f1")
    with pytest.raises(
        ConfigError, match=r"schedule.phases.head.monitor must be a metric for single"
    ):
        Monitor(phase, Objective(ONE, 3), LABELS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_improves(value):
    inventory = take_inventory(*make_tiny())
    phase = Phase("head", 9, 0.1, ALL, monitor="auroc", patience=3)
    best = BestEpoch(phase, Monitor(phase, Objective(ONE, 3), LABELS), inventory, [])
    stops = [
        best.update(epoch, {"val_auroc": v}) for epoch, v in enumerate([value, 0.5, value, 0.6])
    ]
    assert stops == [False] * 4
    assert (best.value, best.best_epoch, best.waited) == (0.6, 3, 0)


def test_without_any_defined_value_the_last_epoch_is_kept(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(checkpointer, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(checkpointer, "SAVING_SHARE", 1e9)
    phase = Phase("all", 4, 0.3, ALL, monitor="auroc", patience=2, restore_best=True)
    one_class = np.zeros(len(LABELS), np.int64)
    setup = tiny_setup(take_inventory(*make_tiny()), [phase], labels=one_class)
    record = tiny_record()
    Trainer(setup, record, Listener(), Checkpointer(Checkpoints(tmp_path))).run()
    (ran,) = record.phases
    assert np.isnan(ran.monitored).all()
    assert (ran.epochs_run, ran.stopped_by, ran.best_epoch) == (2, "patience", None)
    assert "keeps its last epoch: validation auroc is not a finite number" in caplog.text
    texts = [(path / "checkpoint.json").read_text() for path in tmp_path.iterdir()]
    assert all(json.loads(text)["score"] is None and "NaN" not in text for text in texts)


def test_messages_name_the_key_of_a_generated_phase():
    phase = Phase("stage2", 1, 0.1, ALL, monitor="micro_f1", is_generated=True)
    with pytest.raises(ConfigError, match=r"^schedule\.monitor must be a metric for single"):
        Monitor(phase, Objective(ONE, 3), LABELS)

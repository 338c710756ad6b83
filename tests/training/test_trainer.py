"""The phase loop on the tiny model: faults, patience, best weights, one epoch count."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.errors import FrozenWeightsError, TrainingError
from finetune.evaluation.metrics import report
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.record.listener import Listener
from finetune.schedule.phase import Phase
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import PhaseData
from finetune.training.phase_run import PhaseRun
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny
from tests.helpers.tiny_training import OBJECTIVE, tiny_record, tiny_setup

PROBE = Depth(0)
ALL = NothingFrozen()


class Spy(Listener):
    """A listener that counts, and can meddle at each step."""

    def __init__(self, on_step=None):
        self.rows, self.steps, self.status, self.on_step = [], 0, None, on_step

    def step(self, phase, epoch, step, num_steps, logs):
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self)

    def epoch_ended(self, record, phase, rows):
        self.rows += rows

    def run_ended(self, record):
        self.status = record.status


def train(phases, on_step=None, inventory=None, settings=None, finish=None, executions=1):
    inventory = inventory or take_inventory(*make_tiny(dropout=0.2))
    random = np.random.default_rng(0)
    images = random.normal(size=(24, 8, 8, 1)).astype("float32")
    labels = (images.mean((1, 2, 3)) > 0).astype("int32")
    one = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)

    def batches():
        return one

    def training(first, last, skip=0):
        return one.repeat(last - first).skip(skip)

    data = PhaseData(inventory.model, training, batches, batches, 3, executions)
    setup = tiny_setup(inventory, phases, data, settings, labels)
    record, spy = tiny_record(), Spy(on_step)
    trainer = Trainer(setup, record, spy)

    def run():
        trainer.run(lambda outputs: report(outputs, labels, "abc", OBJECTIVE), finish)

    return run, record, spy, inventory


def test_one_epoch_count_and_proof_over_all_phases():
    phases = [Phase("head", 2, 0.1, PROBE), Phase("full", 3, 0.05, ALL, batch_norm="train")]
    run, record, spy, inventory = train(phases)
    run()
    assert record.status == spy.status == "completed"
    assert [row.global_epoch for row in spy.rows if row.split == "train"] == [0, 1, 2, 3, 4]
    assert [row.epoch for row in spy.rows if row.split == "train"] == [0, 1, 0, 1, 2]
    assert spy.steps == 15
    assert [p.epochs_run for p in record.phases] == [2, 3]
    # head: 8 frozen weights and 5 held ones (4 statistics, 1 constant); full: the constant, to which
    # no call writes
    assert [p.frozen_proof.weights_checked for p in record.phases] == [13, 1]
    assert not any("call" in vars(layer) for layer in inventory.layers)
    assert record.test.keys() == {"loss", "accuracy", "macro_f1", "expected_calibration_error"}
    assert [entry["name"] for entry in record.test_per_class] == ["a", "b", "c"]
    assert sum(count for *_, count in record.test_details.confusion) == 24
    head, full = (phase.weight_change for phase in record.phases)
    assert list(head) == ["stage1", "stage2", "head"]
    assert head["stage1"] == head["stage2"] == 0.0 < head["head"]
    assert all(0.0 < change < 10 for change in full.values())


def test_a_frozen_weight_changed_in_mid_phase_fails_the_run_and_is_named():
    inventory = take_inventory(*make_tiny())
    kernel = inventory.variables["s2_conv/kernel"]

    def meddle(spy):
        if spy.steps == 4:
            kernel.assign_add(keras.ops.ones_like(kernel) * 1e-6)

    finished = []
    phases = [Phase("head", 3, 0.1, PROBE)]
    run, record, spy, _ = train(phases, meddle, inventory, finish=lambda: finished.append(1))
    with pytest.raises(FrozenWeightsError, match=r"phase head .*s2_conv/kernel"):
        run()
    assert spy.status == "failed"
    assert record.phases[0].frozen_proof.weights_changed == 1
    assert finished == []


def test_trap_a_stale_step_would_train_the_old_set():
    phases = [Phase("a", 1, 0.1, ALL), Phase("b", 1, 0.1, PROBE), Phase("c", 1, 0.1, ALL)]
    seen = []
    inventory = take_inventory(*make_tiny())
    run, _, _, _ = train(
        phases, lambda spy: seen.append(to_numpy(inventory.variables["s1_conv/kernel"])), inventory
    )
    run()
    assert not np.array_equal(seen[0], seen[2])  # a trains it
    np.testing.assert_array_equal(seen[3], seen[5])  # b holds it still
    assert not np.array_equal(seen[5], seen[8])  # c trains it again


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where():
    run, _, spy, _ = train([Phase("hot", 30, 1e30, ALL)], settings=OptimizerSettings("sgd"))
    with pytest.raises(TrainingError, match=r"phase hot, epoch \d+.*learning rate 1e\+30"):
        run()
    assert spy.status == "failed"


def test_an_execution_never_takes_steps_of_the_next_epoch():
    losses = []
    for executions in (1, 2, 3):  # of 3 steps an epoch: 2 at once would read into the next one
        run, _, spy, _ = train([Phase("head", 3, 0.1, PROBE)], executions=executions)
        run()
        losses.append([row.loss for row in spy.rows])
    assert losses[1] == pytest.approx(losses[0])
    assert losses[2] == pytest.approx(losses[0])


def test_patience_ends_a_phase_and_the_best_weights_come_back():
    phases = [Phase("hot", 20, 0.3, ALL, patience=2, restore_best=True)]
    run, record, spy, _ = train(phases, settings=OptimizerSettings("adam"))
    run()
    phase = record.phases[0]
    assert phase.stopped_by == "patience"
    assert phase.epochs_run < 20
    losses = [row.loss for row in spy.rows if row.split == "validation"]
    assert phase.metrics["validation"]["loss"] == pytest.approx(min(losses), rel=1e-4)
    assert phase.best_epoch == int(np.argmin(losses))
    assert record.test["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_an_interrupt_is_recorded():
    def interrupt(spy):
        if spy.steps == 4:
            raise KeyboardInterrupt

    run, record, spy, inventory = train([Phase("head", 3, 0.1, PROBE)], interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert spy.status == "interrupted"
    assert record.phases[0].epochs_run == 1
    assert not any("call" in vars(layer) for layer in inventory.layers)


@pytest.fixture
def interruptible():
    """Makes Ctrl-C heard, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_where_ctrl_c_is_ignored_it_stays_so(interruptible):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run, record, _, _ = train(
        [Phase("all", 1, 0.1, ALL)], on_step=lambda spy: signal.raise_signal(signal.SIGINT)
    )
    run()
    assert record.status == "completed"


def test_ctrl_c_ends_the_step_and_a_second_one_does_not_wait(interruptible):
    def once(spy):
        if spy.steps == 2:
            signal.raise_signal(signal.SIGINT)
            spy.noted = True  # the first is kept until the step has been reported

    run, record, spy, _ = train([Phase("all", 5, 0.1, ALL)], on_step=once)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert spy.noted and spy.steps == 2
    assert record.status == spy.status == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def twice(spy):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        spy.noted = True

    run, record, spy, _ = train([Phase("all", 5, 0.1, ALL)], on_step=twice)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert spy.steps == 1 and not hasattr(spy, "noted")


def test_out_of_memory_names_phase_and_batch_size(monkeypatch):
    def exhausted(self):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(PhaseRun, "run", exhausted)
    run, _, _, _ = train([Phase("top", 6, 0.2, Depth(1))])
    with pytest.raises(
        TrainingError, match=r"dataset.batch_size must be.*phase top.*depth\(1\).*Received: 8.*OOM"
    ):
        run()

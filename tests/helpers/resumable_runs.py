"""Runs of the tiny model that are killed at any step and resumed, and what they come to."""

import json
import signal

import keras
import numpy as np

from finetune.evaluation.metrics import report
from finetune.features.cut import LinearHead
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.record.files import to_values
from finetune.record.listener import Listener
from finetune.schedule.phase import Phase
from finetune.storage.sealed import digest_of
from finetune.training.checkpointer import Checkpointer
from finetune.training.checkpoints import Checkpoints
from finetune.training.optimizers import OptimizerSettings
from finetune.training.run_state import resume_point
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny
from tests.helpers.tiny_training import (
    IMAGES,
    LABELS,
    OBJECTIVE,
    tiny_data,
    tiny_record,
    tiny_setup,
)

PROBE, TOP, ALL = Depth(0), Depth(1), NothingFrozen()
# 3 steps an epoch: a probe; a phase that stops early and restores its best weights; all weights.
PHASES = [
    Phase("probe", 2, 0.1, PROBE),
    Phase("top", 6, 0.2, TOP, batch_norm="train", patience=1, restore_best=True),
    Phase("all", 2, 0.01, ALL, batch_norm="train", stage_lr_decay=0.5),
]


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved on the way out."""


class Spy(Listener):
    """Counts the steps of one process, and calls `on_step` at each of them."""

    def __init__(self, on_step=lambda steps: None):
        self.steps, self.on_step = 0, on_step

    def step(self, phase, epoch, step, num_steps, logs):
        self.steps += 1
        self.on_step(self.steps)


class Run:
    """One process of a run: a newly built model, and a trainer for it."""

    def __init__(
        self, directory, on_step=lambda steps: None, *, phases=PHASES, optimizer="adam",
        minutes=None, whole=False, standardise=False, seed=0, finish=None,
    ):  # fmt: skip
        self.inventory = take_inventory(*make_tiny(dropout=0.2, seed=seed))
        self.setup = tiny_setup(
            self.inventory,
            phases,
            self._standardised() if standardise else None,
            OptimizerSettings(optimizer),
            save_all_weights=whole,
        )
        self.record, self.spy, self.finish = tiny_record(), Spy(on_step), finish
        kept = None
        if directory is not None:
            checkpoints = Checkpoints(directory)
            kept = Checkpointer(checkpoints, minutes, checkpoints.latest(resume_point))
        self.trainer = Trainer(self.setup, self.record, self.spy, kept)

    def _standardised(self):
        from dataclasses import replace

        model = self.inventory.model
        dense = model.get_layer("logits")
        below = keras.Model(model.inputs, model.get_layer("pooler").output)
        return replace(
            tiny_data(model),
            head=LinearHead(dense, dense),
            head_features=lambda: iter([below.predict(IMAGES, verbose=0)]),
        )

    def run(self):
        self.trainer.run(lambda outputs: report(outputs, LABELS, "abc", OBJECTIVE), self.finish)
        return self

    def end(self):
        """Returns everything that the run came to, apart from its timing."""
        values = to_values(self.record)
        for timed in (*values["phases"], *values["history"]):
            del timed["seconds"]
        kept = {
            k: values[k]
            for k in ("phases", "history", "test", "test_per_class", "test_details", "status")
        }
        variables = {str(i): to_numpy(v) for i, v in enumerate(self.inventory.model.variables)}
        return kept, variables | self.setup.optimizers.state()


def position_of(directory):
    """Returns the position of the last checkpoint."""
    return Checkpoints(directory).latest(resume_point).state.position


def kill_at(step):
    """Returns what kills a process at a step."""

    def on_step(steps):
        if steps == step:
            raise Killed

    return on_step


def interrupt_at(step):
    """Returns what sends SIGTERM at a step."""

    def on_step(steps):
        if steps == step:
            signal.raise_signal(signal.SIGTERM)

    return on_step


def assert_same(one, other):
    """Compares what two runs came to, bit for bit."""
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], err_msg=name)


def reseal(path, change):
    """Changes a checkpoint.json as someone would who knows its format."""
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest.pop("sha256", None)
    path.write_text(json.dumps({**manifest, "sha256": digest_of(manifest)}))


def put(*keys, value=None):
    """Returns a change that sets a value, or removes it where there is none."""

    def change(manifest):
        *path, last = keys
        for key in path:
            manifest = manifest[key]
        if value is None:
            del manifest[last]
        else:
            manifest[last] = value

    return change

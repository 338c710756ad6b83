"""A trainer of the tiny model on noise, without any dataset or stored features."""

from collections.abc import Sequence

import numpy as np

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import make_plan
from finetune.record.listener import Listener
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.schedule.phase import Phase
from finetune.tasks.objective import ONE, Objective
from finetune.training.checkpointer import Checkpointer
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import BatchSettings, SamePhaseData, phase_data
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer

IMAGES = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype("float32")
LABELS = (IMAGES.mean((1, 2, 3)) > 0).astype("int32")


def make_trainer(
    inventory: Inventory,
    phases: Sequence[Phase],
    listener: Listener,
    checkpointer: Checkpointer | None = None,
) -> tuple[Trainer, RunRecord]:
    """Returns a trainer whose three splits are the same 20 images, in batches of 8."""
    examples = Examples(Split("train", IMAGES, LABELS, "", None), ArrayReader(), LABELS)
    splits = {name: examples for name in ("train", "validation", "test")}
    data = phase_data(inventory.model, splits, BatchSettings(8, 3))
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    record = RunRecord(
        config={"dataset": {"batch_size": 8}}, overrides=[], seed=0, versions={}, device={},
        backbone=BackboneRecord(name="tiny", source="test", weights_sha256="", stages=[]),
        dataset=DatasetRecord(name="noise", fingerprint="", num_classes=3, classes=[], splits={}),
    )  # fmt: skip
    setup = TrainingSetup(
        CompiledSteps(inventory, Objective(ONE, 3)), tuple(phases), tuple(plans),
        SamePhaseData(data), OptimizerSettings("sgd"), LABELS,
    )  # fmt: skip
    return Trainer(setup, record, listener, checkpointer), record

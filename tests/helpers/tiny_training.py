"""The tiny model trained on noise, without any dataset file or stored features."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import BatchSettings, PhaseData, SamePhaseData, phase_data
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer

IMAGES = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype("float32")
LABELS = (IMAGES.mean((1, 2, 3)) > 0).astype("int32")
OBJECTIVE = Objective(ONE, 3)


def tiny_data(model: Any) -> PhaseData:
    """Returns data whose three splits are the same 20 images, in batches of 8."""
    examples = Examples(Split("train", IMAGES, LABELS, "", None), ArrayReader(), LABELS)
    splits = {name: examples for name in ("train", "validation", "test")}
    return phase_data(model, splits, BatchSettings(8, 3))


def tiny_setup(
    inventory: Inventory,
    phases: Sequence[Phase],
    data: PhaseData | None = None,
    optimizer: OptimizerSettings | None = None,
    labels: np.ndarray = LABELS,
    **options: bool,
) -> TrainingSetup:
    """Returns what a trainer of the tiny model works with; plain SGD if no optimizer is given."""
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    return TrainingSetup(
        CompiledSteps(inventory, OBJECTIVE),
        tuple(phases),
        tuple(plans),
        SamePhaseData(tiny_data(inventory.model) if data is None else data),
        OptimizerSettings("sgd") if optimizer is None else optimizer,
        labels,
        **options,
    )


def tiny_record(config: Mapping[str, Any] | None = None) -> RunRecord:
    """Returns the record of a run that has not started."""
    return RunRecord(
        config=dict(config or {"dataset": {"batch_size": 8}}), overrides=[], seed=0, versions={},
        device={},
        backbone=BackboneRecord(name="tiny", source="test", weights_sha256="", stages=[]),
        dataset=DatasetRecord(name="noise", fingerprint="", num_classes=3, classes=[], splits={}),
    )  # fmt: skip


def make_trainer(
    inventory: Inventory, phases: Sequence[Phase], listener: Listener
) -> tuple[Trainer, RunRecord]:
    """Returns a trainer of the tiny model, and the record that it fills."""
    record = tiny_record()
    return Trainer(tiny_setup(inventory, phases), record, listener), record

"""What a run writes down of itself before it trains."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune.building import Run
from finetune.config import Config
from finetune.datasets.bad_samples import as_record
from finetune.datasets.dataset import Dataset
from finetune.freezing.inventory import HEAD
from finetune.record import BackboneRecord, DatasetRecord, RunRecord
from finetune.resuming import versions


def describe(run: Run, config: Config, overrides: Sequence[str]) -> RunRecord:
    """Returns the record of a run that has not begun.

    Args:
        run: what has been built.
        config: checked.
        overrides: as typed.
    """
    stages = {name: {"weights": 0, "parameters": 0} for name in run.built.inventory.stage_names}
    for info in run.built.inventory.infos:
        stages[info.stage]["weights"] += 1
        stages[info.stage]["parameters"] += info.parameters
    dataset = run.built.dataset
    return RunRecord(
        config=asdict(config),
        overrides=list(overrides),
        seed=config.seed,
        versions=versions(),
        device=run.built.device.as_record(),
        backbone=BackboneRecord(
            **asdict(run.built.origin),
            stages=[{"name": n, **c} for n, c in stages.items() if n != HEAD],
        ),
        dataset=DatasetRecord(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            num_classes=len(dataset.classes),
            classes=list(dataset.classes),
            splits={name: split.num_examples for name, split in dataset.splits.items()},
            skipped=as_record(dataset.skipped),
            repeated=dict(dataset.repeated),
            ignored=dict(dataset.ignored),
            multi_label=dataset.multi_label,
        ),
    )


def identity(record: RunRecord) -> dict[str, Any]:
    """Returns what of a record says on what it was computed.

    The weights of a user's own model are in its checkpoints, whatever the model holds now.
    """
    own = record.backbone.source == "own"
    backbone = ("source", "preprocessing_sha256", *(() if own else ("weights_sha256",)))
    return {
        "dataset.fingerprint": record.dataset.fingerprint,
        "dataset.classes": record.dataset.classes,
        **{f"backbone.{key}": getattr(record.backbone, key) for key in backbone},
        **{f"device.{key}": value for key, value in record.device.items()},
    }


def split_list(dataset: Dataset) -> str:
    """Returns which example is in which split, one line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "source"])
    for name, split in dataset.splits.items():
        writer.writerows([name, each] for each in ([] if split.sources is None else split.sources))
    return text.getvalue()

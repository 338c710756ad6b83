"""Describes a run before it trains: its record, the facts of its model card, and its cost."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune.backbones import HEAD
from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.backbones.handles import HF_SCHEME
from finetune.backbones.saving import preset_task
from finetune.config import plugins
from finetune.config.used_plugins import used
from finetune.datasets.bad_samples import as_record
from finetune.datasets.catalog import BUNDLED_DATASETS
from finetune.datasets.dataset import Dataset, row_digests
from finetune.evaluation.samples import class_counts
from finetune.features.work import stage_work
from finetune.record.files import SPLITS_COLUMNS
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.reporting.model_card import CardFacts
from finetune.reporting.terminal.forecast import PhaseCost, phase_amount
from finetune.runs.planned_run import PlannedRun
from finetune.runs.resume import versions


def describe(run: PlannedRun, overrides: Sequence[str] = ()) -> RunRecord:
    """Returns the record of a run that has not started.

    Args:
        run: The planned run.
        overrides: Overrides as the user typed them.
    """
    config = run.config
    stages = {name: {"weights": 0, "parameters": 0} for name in run.built.inventory.stage_names}
    for info in run.built.inventory.infos:
        stages[info.stage]["weights"] += 1
        stages[info.stage]["parameters"] += info.parameters
    dataset = run.built.dataset
    splits = dataset.splits
    return RunRecord(
        config=asdict(config),
        overrides=list(overrides),
        plugins=used(config),
        directions={
            name: plugins.load("metrics", name, "metrics").direction
            for name in run.metrics
            if not plugins.is_own("metrics", name)
        },
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
            splits={name: split.num_examples for name, split in splits.items()},
            skipped=as_record(dataset.skipped),
            repeated=dict(dataset.repeated),
            ignored=dict(dataset.ignored),
            split_sources=dict(dataset.used),
            unused=list(dataset.unused),
            multi_label=dataset.multi_label,
            class_counts={
                name: class_counts(split, len(dataset.classes)) for name, split in splits.items()
            },
        ),
    )


def card_facts(run: PlannedRun) -> CardFacts:
    """Returns the facts of the model card that are not in the record; licences only if known."""
    config = run.config
    preset = config.backbone.preset or ""
    entry = NAMED_BACKBONES.get(preset) if config.backbone.load_weights else None
    base = None if entry is None else entry.hub
    if preset.startswith(HF_SCHEME):
        base = preset.removeprefix(HF_SCHEME)
    data = BUNDLED_DATASETS.get(config.dataset.name)
    return CardFacts(
        kind=run.built.dataset.kind,
        task=preset_task(run.built.inventory.model),
        multi_label=run.built.dataset.multi_label,
        from_logits=run.built.objective.from_logits,
        weights_licence=None if entry is None else entry.licence,
        data_licence=None if data is None else data.licence,
        base_model=base,
    )


def phase_costs(run: PlannedRun, record: RunRecord) -> tuple[list[PhaseCost], float, float]:
    """Estimates the cost of a run before it trains.

    Args:
        run: The planned run.
        record: Its record, with the decisions about storing features.

    Returns:
        The cost of each phase, the multiply-adds of one example in the pass that computes features,
        and those of the whole test split.
    """
    inventory = run.built.inventory
    work = stage_work(inventory, run.built.steps.graph)
    weights = dict.fromkeys(inventory.stage_names, 0.0)
    parameters = dict.fromkeys(inventory.stage_names, 0)
    for info in inventory.infos:
        weights[info.stage] += 1
        parameters[info.stage] += info.parameters
    stored = {d.phase: d.below for d in record.features if d.stored}
    costs = []
    for phase, plan in zip(run.phases, run.plans, strict=True):
        trained = dict.fromkeys(inventory.stage_names, 0)
        for info in inventory.infos:
            trained[info.stage] += info.parameters if info.path in plan.trainable else 0
        shares = {name: number / max(parameters[name], 1) for name, number in trained.items()}
        below = stored.get(phase.name, {})
        costs.append(
            PhaseCost(
                phase.epochs,
                phase_amount(work, shares, below),
                phase_amount(weights, shares, below),
            )
        )
    prefixes = [sum(work.get(k, 0.0) * share for k, share in b.items()) for b in stored.values()]
    closing = record.dataset.splits.get("test", 0) * sum(work.values())
    return costs, max(prefixes, default=0.0), closing


def identity(record: RunRecord) -> dict[str, Any]:
    """Returns the part of a record that identifies data, pretrained weights and device.

    The weights of a user's own model are not part of it, because they are in its checkpoints.
    """
    own = record.backbone.own
    backbone = ("source", "preprocessing_sha256", *(() if own else ("weights_sha256",)))
    return {
        "dataset.fingerprint": record.dataset.fingerprint,
        "dataset.classes": record.dataset.classes,
        **{f"backbone.{key}": getattr(record.backbone, key) for key in backbone},
        **{f"device.{key}": value for key, value in record.device.items()},
        **{f"plugins.{k}": v for k, v in record.plugins.items() if not k.startswith("trackers.")},
    }


def split_list(dataset: Dataset) -> str:
    """Returns the split of each example as CSV, with the digest of its content."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SPLITS_COLUMNS)
    for name, split in dataset.splits.items():
        digests = row_digests(split) if split.digests is None else split.digests
        writer.writerows(
            [name, split.source(row), f"{digest:016x}"]
            for row, digest in enumerate(digests.tolist())
        )
    return text.getvalue()

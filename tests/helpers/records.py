"""Records of runs, made by hand."""

import math

from finetune.record.schema import (
    BackboneRecord,
    DatasetRecord,
    EvaluationDetails,
    FeatureDecision,
    FrozenProof,
    MetricRow,
    Mistake,
    PhaseRecord,
    RunRecord,
    Sample,
)

STAGES = ("stem", "stage1", "head")
SIZES = {"stem": 100, "stage1": 2000, "head": 30}


def phase(index, name, trains, epochs=2, rates=None, still=None):
    """Returns a phase in which the named stages train; 40 of the 2000 of stage1 are untrainable."""
    stages = []
    for stage in STAGES:
        total = SIZES[stage]
        fixed = total // 50 if total > 1000 else 0
        free = total - fixed
        counts = {"trainable": free if stage in trains else 0, "untrainable": fixed}
        counts["frozen"] = free - counts["trainable"]
        counted = {state: {"weights": min(n, 2), "parameters": n} for state, n in counts.items()}
        stages.append({"name": stage, **counted})
    total = {
        state: {
            unit: sum(counted[state][unit] for counted in stages)
            for unit in ("weights", "parameters")
        }
        for state in ("trainable", "frozen", "untrainable")
    }
    units = ("weights", "parameters")
    held = {unit: total["frozen"][unit] + total["untrainable"][unit] for unit in units}
    total["non_trainable"] = held
    total["total"] = {unit: held[unit] + total["trainable"][unit] for unit in units}
    proof = None if still is None else FrozenProof(still, 0, "ab" * 32, "ab" * 32)
    return PhaseRecord(
        index, name, f"depth({index})", "inference", epochs,
        rates or dict.fromkeys(trains, 0.01), total, stages,
        epochs_run=epochs, stopped_by="epochs", seconds=3.0 + index, frozen_proof=proof,
        features={"cached": True, "cut": "pool", "samples_extracted": 90, "seconds": 0.5},
        metrics={"train": {"loss": 0.2, "accuracy": 0.9},
                 "validation": {"loss": 0.25 - 0.1 * index, "accuracy": 0.85 + 0.05 * index}},
        weight_change={s: (0.25 if s in trains else 0.0) for s in STAGES},
    )  # fmt: skip


def rows(index, name, first, losses):
    """Returns the rows of a phase, of which `first` is the first epoch of the run."""
    return [
        MetricRow(index, name, k, first + k, split, 0.01, loss + extra, 0.9 - extra, 0.5)
        for k, loss in enumerate(losses)
        for split, extra in (("train", 0.0), ("validation", 0.05))
    ]


def make_run(status="completed", classes=("cat", "dog", "eel")):
    """Returns a run of two phases: the head, then stage1 too."""
    phases = [phase(0, "head", ["head"], still=4), phase(1, "top", ["head", "stage1"], still=3)]
    return RunRecord(
        config={"seed": 0, "dataset": {"name": "pets", "batch_size": 32, "label_separator": None}},
        overrides=["experiment=pets", "dataset.path=/data/my pets"],
        seed=0, versions={"python": "3.11.7", "keras": "3.15.1"},
        device={"kind": "cpu", "names": ["cpu"], "precision": "float32", "deterministic": True},
        backbone=BackboneRecord(
            "resnet_mini", "bundled", "cd" * 32,
            [{"name": s, "weights": 2, "parameters": SIZES[s]} for s in STAGES[:2]],
            preprocessing={"image_size": [32, 32]},
        ),
        dataset=DatasetRecord(
            "pets", "ef" * 32, len(classes), list(classes), {"train": 90, "validation": 10, "test": 50},
            class_counts={
                "train": [60, 20, 10][: len(classes)] + [0] * (len(classes) - 3),
                "validation": [6, 3, 1][: len(classes)] + [0] * (len(classes) - 3),
            },
            samples=[
                Sample("a/2.png", classes[0], "plots/samples/00.png", "plots/samples/00-augmented.jpg"),
                Sample("line 3", classes[1], text="some long text", tokens=["some", "##long"],
                       tokens_read=70, tokens_whole=412),
            ],
        ),
        status=status, started="2026-01-31T12:00:05+01:00",
        features=[
            FeatureDecision("head", "pool", "saves time", True, 1024, 102400, 5.0, 0.3,
                            {"stem": 1.0, "stage1": 1.0}),
            FeatureDecision("top", "relu", "costs more than it saves", False, 2048, 204800, 0.1, 0.3,
                            {"stem": 0.5}),
        ],
        phases=phases,
        test={"loss": 0.3, "accuracy": 0.9, "macro_f1": 0.88, "expected_calibration_error": 0.04},
        test_per_class=[
            {"name": name, "precision": 0.9, "recall": 0.8 + 0.05 * i, "f1": 0.85, "support": 30 - 10 * i}
            for i, name in enumerate(classes)
        ],
        test_details=EvaluationDetails(
            [[0, 0, 27], [1, 1, 15], [1, 0, 5], [0, 1, 3]],
            [{"confidence": 0.55, "accuracy": 0.5, "count": 10}, {"confidence": 0.95, "accuracy": 1.0, "count": 40}],
            [Mistake("a/1.png", classes[1], classes[0], 0.98, image="plots/mistakes/1.png"),
             Mistake("line 7", classes[0], classes[1], 0.75, text="a text of some words")],
        ),
        seconds={"total": 20.0, "startup": 6.0, "imports": 4.0, "building": 2.0, "training": 9.0,
                 "evaluation": 1.0, "reporting": 0.5},
        peak_memory_bytes=1_500_000_000,
        model_sha256={"task.json": "0", "model.weights.h5": "1"},
        history=[*rows(0, "head", 0, (0.9, 0.3)), *rows(1, "top", 2, (0.2, 0.1))],
    )  # fmt: skip


COUNTS = {
    state: {"weights": 1, "parameters": 2}
    for state in ("trainable", "frozen", "untrainable", "non_trainable", "total")
}


def make_record():
    """Returns a run of one phase that trains the head, with names that look like markup."""
    phase = PhaseRecord(
        0, "head", "depth(0)", "inference", 2, {"head": 0.1}, COUNTS,
        [{"name": "stem", **{s: COUNTS[s] for s in ("trainable", "frozen", "untrainable")}}],
        frozen_proof=FrozenProof(1, 0, "a", "a"),
        metrics={"train": {"loss": math.nan, "accuracy": 0.5}},
    )  # fmt: skip
    return RunRecord(
        config={}, overrides=["[red]x[/]"], seed=0, versions={},
        device={"names": ["cpu"], "precision": "float32"},
        backbone=BackboneRecord("b", "bundled", "0", [{"name": "stem"}]),
        dataset=DatasetRecord("[bold]d[/]", "0", 2, ["a", "b"], {"train": 3}),
        phases=[phase], test={"loss": 1.0, "accuracy": 0.25}, seconds={"total": 1.0},
    )  # fmt: skip


BIG = 304_123_456


def big_record(num_stages=14):
    """Returns a record of a long progressive schedule on a network of 300 M parameters."""
    record = make_record()
    names = [f"hierarchical_encoder_{n}_with_a_long_name" for n in range(num_stages)]
    count = {"weights": 148, "parameters": BIG}
    states = ("trainable", "frozen", "untrainable", "non_trainable", "total")
    (phase,) = record.phases
    phase.stages = [{"name": name, **dict.fromkeys(states[:3], count)} for name in names]
    phase.weight_counts = dict.fromkeys(states, count)
    phase.learning_rates = dict.fromkeys(names, 1.25e-5)
    record.phases = [phase] * num_stages
    return record


def two_phases():
    """Returns a run with three epochs of a first phase and one of a second that has not ended."""
    record = make_record()
    first, second = record.phases[0], make_record().phases[0]
    second.index, second.name, second.frozen_proof = 1, "top", None
    first.weight_change = {"stem": 0.0, "head": 0.5}
    record.phases.append(second)
    for epoch, phase in enumerate((0, 0, 0, 1)):
        for split in ("train", "validation"):
            record.history.append(MetricRow(phase, "p", epoch, epoch, split, 0.1, 1.0, 0.5, 2.0))
    return record

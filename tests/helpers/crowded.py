"""Records whose pictures are crowded: many stages, phases and classes, with long names."""

from dataclasses import replace

from finetune.record.schema import STATES, FeatureDecision
from tests.helpers.records import make_run, rows

LONG = ("embeddings", "hierarchical_encoder_", "transformer_layer_block_", "stage")


def crowded_run(stages=14, phases=13, classes=12, epochs=1, names=LONG):
    """Returns a progressive run in which one more stage trains in each phase."""
    record = make_run(classes=[f"{names[n % len(names)]} of the class {n}" for n in range(classes)])
    parts = [f"{names[n % len(names)]}{n}" for n in range(stages - 1)] + ["head"]
    record.phases = [_phase(record.phases[0], i, parts, epochs) for i in range(phases)]
    record.history = [
        row
        for i, phase in enumerate(record.phases)
        for row in rows(i, phase.name, i * epochs, [10.0 ** (-i / 2)] * epochs)
    ]
    record.features = [
        FeatureDecision(
            phase.name, "x", "saves time", i % 2 == 0, 10, 1000, 195.0, 3.0, {parts[0]: 1.0}
        )
        for i, phase in enumerate(record.phases)
    ]
    record.test_details.confusion = [
        [n, m, 123 + n] for n in range(classes) for m in range(classes) if (n + m) % 3 == 0
    ]
    record.test_details.reliability = [
        {"confidence": 0.03 + n / 15, "accuracy": n / 15, "count": 10 ** (n % 4)} for n in range(15)
    ]
    record.seconds = {name: 3723.0 for name in ("total", "imports", "building", "training")}
    return record


def _phase(like, index, parts, epochs):
    trains = set(parts[len(parts) - 1 - index :])
    stages = []
    for n, part in enumerate(parts):
        counts = dict.fromkeys(STATES, 0)
        counts["trainable" if part in trains else "frozen"] = 888_000 * (n + 1)
        if n % 3 == 0 and part in trains:
            counts["frozen"] = 123_000
        stages.append(
            {"name": part, **{k: {"weights": 1, "parameters": v} for k, v in counts.items()}}
        )
    changes = {part: 10.0 ** (n - 8) if part in trains else 0.0 for n, part in enumerate(parts)}
    return replace(
        like,
        index=index,
        name=f"{LONG[index % len(LONG)]} phase {index}",
        epochs_planned=epochs,
        epochs_run=epochs,
        seconds=11.9 * (index + 1),
        best_epoch=index * epochs,
        stages=stages,
        weight_change=changes,
        learning_rates={part: 0.01 * 0.5**n for n, part in enumerate(reversed(parts)) if part in trains},
    )  # fmt: skip

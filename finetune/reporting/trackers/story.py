"""The events of a record for trackers: named numbers over global epochs, and hyperparameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from finetune.config.schema import ScheduleConfig
from finetune.printable import printable
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord

Value = bool | int | float | str
KINDS = ("begun", "epochs", "ended", "result")  # in the order in which they occur in a run
# Config keys that never change a result: paths, stored features and trackers.
_IRRELEVANT = ("backbone.path", "dataset.path", "dataset.data_dir", "features.", "trackers.")
# Hyperparameters that say how the result is computed or where the data come from.
_HOW = ("runtime.", "dataset.splits.", "dataset.columns.", "dataset.on_bad_sample")
_OPTIONAL = {  # numbers that may be null
    "dataset": ("image_size", "sequence_length", "max_samples", "train_per_class"),
    "optimizer": ("weight_decay", "momentum", "beta_1", "beta_2", "epsilon", "clipnorm"),
}
_RANGE = {key.name for key in fields(ScheduleConfig)} - {"phases", "from_depth"}


@dataclass(frozen=True)
class Event:
    """An event of a run.

    Args:
        kind: One of `KINDS`: a phase has begun, an epoch or a phase has ended, or the run has
            completed.
        number: Number of the phase or global epoch, from 0; 0 for the run.
        step: Global epoch at which to plot the event, from 0. It never decreases.
        values: Numbers by name; the part before the first slash groups them.
    """

    kind: str
    number: int
    step: int
    values: dict[str, float]


def story(record: RunRecord) -> Iterator[Event]:
    """Yields all events of a run so far in order. Later calls start with the same events."""
    rows: dict[int, dict[int, list[MetricRow]]] = {}
    for row in record.history:
        rows.setdefault(row.phase, {}).setdefault(row.global_epoch, []).append(row)
    step = 0
    for phase in record.phases:
        yield Event("begun", phase.index, step, _begun(phase))
        epochs = rows.get(phase.index, {})
        for epoch in sorted(epochs):
            yield Event("epochs", epoch, epoch, _epoch(phase, epochs[epoch]))
        last = max(epochs, default=step)
        if phase.frozen_proof is not None:
            yield Event("ended", phase.index, last, _ended(phase))
        step = last + 1 if epochs else step
    if record.status == "completed":
        yield Event("result", 0, step, _result(record))


def _begun(phase: PhaseRecord) -> dict[str, float]:
    values: dict[str, float] = {}
    for state, count in phase.weight_counts.items():
        values |= {f"counts/{state}_{unit}": number for unit, number in count.items()}
    for stage in phase.stages:
        for state in ("trainable", "frozen"):
            for unit, number in stage[state].items():
                values[f"stages/{printable(stage['name'])}/{state}_{unit}"] = number
    rates = phase.learning_rates.items()
    return values | {f"learning_rate/{printable(stage)}": rate for stage, rate in rates}


def _epoch(phase: PhaseRecord, rows: list[MetricRow]) -> dict[str, float]:
    values: dict[str, float] = {"phase": phase.index + 1}
    for row in rows:
        values[f"loss/{row.split}"] = row.loss
        values[f"accuracy/{row.split}"] = row.accuracy
        values[f"epoch_seconds/{row.split}"] = row.seconds
    monitored = phase.monitored[rows[0].epoch : rows[0].epoch + 1]  # none for loss and accuracy
    found = {f"{printable(phase.monitor)}/validation": v for v in monitored if v is not None}
    return values | found


def _ended(phase: PhaseRecord) -> dict[str, float]:
    values: dict[str, float] = {"phase_seconds": phase.seconds}
    if phase.frozen_proof is not None:
        values["proof/weights_checked"] = phase.frozen_proof.weights_checked
        values["proof/weights_changed"] = phase.frozen_proof.weights_changed
    moved = phase.weight_change.items()
    return values | {f"weight_change/{printable(stage)}": change for stage, change in moved}


def _result(record: RunRecord) -> dict[str, float]:
    values = {f"{name}/test": value for name, value in record.test.items()}
    values |= {f"seconds/{part}": seconds for part, seconds in record.seconds.items()}
    return values | {"peak_memory_bytes": record.peak_memory_bytes}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Value]:
    """Returns the config values that can affect the result by dotted key, without nulls."""
    found = {k: v for k, v in flatten(config).items() if not k.startswith(_IRRELEVANT)}
    if "schedule.from_depth" not in found:
        found = {k: v for k, v in found.items() if k not in {f"schedule.{r}" for r in _RANGE}}
    return found


def comparable(config: Mapping[str, Any]) -> dict[str, Value | None]:
    """Returns the `hyperparameters` by which readers compare runs, without runtime settings.

    Numeric keys that are null have the value None, so that all runs of a sweep have the same keys.
    """
    found: dict[str, Value | None] = {
        key: value for key, value in hyperparameters(config).items() if not key.startswith(_HOW)
    }
    for section, keys in _OPTIONAL.items():
        given = config.get(section)
        if isinstance(given, Mapping):
            found |= {f"{section}.{key}": None for key in keys if given.get(key, 0) is None}
    return found


def flatten(values: Mapping[str, Any], where: str = "") -> dict[str, Value]:
    """Returns nested values by dotted key, with lists as text and without nulls."""
    flat: dict[str, Value] = {}
    for key, value in values.items():
        path = f"{where}.{printable(key)}" if where else printable(key)
        if isinstance(value, Mapping):
            flat |= flatten(value, path)
        elif isinstance(value, bool | int | float):
            flat[path] = value
        elif isinstance(value, list | tuple):
            flat[path] = ", ".join(map(printable, value))
        elif value is not None:
            flat[path] = printable(value)
    return flat

"""What a record tells so far, as named numbers over global epochs: the same for every tracker."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from finetune.config.schema import ScheduleConfig
from finetune.printable import printable
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord

Value = bool | int | float | str
KINDS = ("begun", "epochs", "ended", "result")  # in the order in which a run comes to them
# Of the config: where things are, what is stored and who is told changes no result.
_IRRELEVANT = ("backbone.path", "dataset.path", "dataset.data_dir", "features.", "trackers.")
# Of the hyperparameters: these change how a result is computed, or where it comes from.
_HOW = ("runtime.", "dataset.splits.", "dataset.columns.", "dataset.on_bad_sample")
_OPTIONAL = {  # numbers that may be null
    "dataset": ("image_size", "sequence_length", "max_samples", "train_per_class"),
    "optimizer": ("weight_decay", "momentum", "beta_1", "beta_2", "epsilon", "clipnorm"),
}
_RANGE = {key.name for key in fields(ScheduleConfig)} - {"phases", "from_depth"}


@dataclass(frozen=True)
class Event:
    """Something that a run has come to.

    Args:
        kind: one of `KINDS`: a phase has begun, an epoch or a phase has ended, the run is completed.
        number: which phase or global epoch, from 0; 0 for the run.
        step: global epoch, from 0, to show it at; it never falls.
        values: numbers by name; what comes before the first slash is what they have in common.
    """

    kind: str
    number: int
    step: int
    values: dict[str, float]


def story(record: RunRecord) -> Iterator[Event]:
    """Yields all that a run has come to, in order; later calls begin with the same events."""
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
    return values


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
    """Returns what of a config bears on the result, by its path; nulls are left out."""
    found = {k: v for k, v in flatten(config).items() if not k.startswith(_IRRELEVANT)}
    if "schedule.from_depth" not in found:
        found = {k: v for k, v in found.items() if k not in {f"schedule.{each}" for each in _RANGE}}
    return found


def comparable(config: Mapping[str, Any]) -> dict[str, Value | None]:
    """Returns what a reader compares runs by: `hyperparameters` without how it was computed.

    Keys that are null here and a number in another run have a place in the table too: their value
    is None. So all runs of a sweep name the same keys, whichever is read first.
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
    """Returns nested values by their dotted paths; lists as text, nulls left out."""
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

"""What a run writes down: the record of run.json, the rows of metrics.csv, and who listens.

Writers are atomic: a file is either as it was or as it should be, whenever the process dies.
"""

import csv
import io
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from finetune.durable import write_atomically

SCHEMA = 1
EPOCH_SECONDS = 0.5
Count = dict[str, int]


@dataclass
class FrozenProof:
    """How many weights a phase held still, and their combined digest before and after."""

    weights_checked: int
    weights_changed: int
    sha256_before: str
    sha256_after: str


@dataclass
class BackboneRecord:
    """Which pretrained network, by the digest of its weights, and its stages.

    `preprocessing` is what its checkpoint asks of the data: size, scale, mean, tokenizer.
    """

    name: str
    source: str
    weights_sha256: str
    stages: list[dict[str, Any]]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    preprocessing_sha256: str = ""


@dataclass
class DatasetRecord:
    """Which data, by fingerprint, and how many samples each split has."""

    name: str
    fingerprint: str
    num_classes: int
    classes: list[str]
    splits: dict[str, int]


@dataclass(frozen=True)
class FeatureDecision:
    """Whether the features of one phase are stored, and why; seconds are a forecast.

    Args:
        phase: its name.
        cut: the layers whose outputs are stored; None where no frozen prefix is.
        reason: for people.
        stored: the decision.
        bytes_per_sample: of one sample on disk.
        bytes: of all that the phase reads.
        saves_seconds: forward passes that training is spared.
        costs_seconds: forward pass and writing of what is not on disk yet.
    """

    phase: str
    cut: str | None
    reason: str
    stored: bool = False
    bytes_per_sample: int = 0
    bytes: int = 0
    saves_seconds: float = 0.0
    costs_seconds: float = 0.0


@dataclass
class PhaseRecord:
    """One phase: what was planned, what trained, what was proved, what came out."""

    index: int
    name: str
    policy: str
    batch_norm: str
    epochs_planned: int
    learning_rates: dict[str, float]
    weight_counts: dict[str, Count]
    stages: list[dict[str, Any]]
    random_seeds: int = 0
    epochs_run: int = 0
    stopped_by: str | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    frozen_proof: FrozenProof | None = None
    features: dict[str, Any] = field(default_factory=lambda: {"cached": False})
    solver: dict[str, Any] = field(default_factory=lambda: {"name": "gradient"})
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class RunRecord:
    """The whole of run.json; `seconds`: total, imports, startup, extraction, training, evaluation."""

    config: dict[str, Any]
    overrides: list[str]
    seed: int
    versions: dict[str, str]
    device: dict[str, Any]
    backbone: BackboneRecord
    dataset: DatasetRecord
    schema: int = SCHEMA
    status: str = "running"
    features: list[FeatureDecision] = field(default_factory=list)
    phases: list[PhaseRecord] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    test_per_class: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class MetricRow:
    """One line of metrics.csv; `epoch` counts in the phase, `global_epoch` in the run, from 0."""

    phase: int
    phase_name: str
    epoch: int
    global_epoch: int
    split: str
    learning_rate: float
    loss: float
    accuracy: float
    seconds: float


class Listener(Protocol):
    """What hears of a run as it goes."""

    def run_started(self, record: RunRecord) -> None:
        """Called before the first phase."""

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called once the plan is applied and counted."""

    def extracting(self, what: str, done: int, total: int) -> None:
        """Called while features are computed: rows of a split; a total of 0 is a wait."""

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Called after optimizer updates; `epoch` is global, `step` counts in the epoch."""

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Called with the rows of the training and the validation split."""

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Called once the proof holds."""

    def run_ended(self, record: RunRecord) -> None:
        """Called however the run ended; `record.status` says how."""


class Listeners:
    """Passes every event on to several listeners, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def run_started(self, record: RunRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.run_started(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.phase_started(record, phase)

    def extracting(self, what: str, done: int, total: int) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.extracting(what, done, total)

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.step(phase, epoch, step, num_steps, logs)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.epoch_ended(record, phase, rows)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.phase_ended(record, phase)

    def run_ended(self, record: RunRecord) -> None:
        """See `Listener`."""
        for each in self._listeners:
            each.run_ended(record)


def to_json(record: RunRecord) -> str:
    """Returns strict JSON; numbers that are not finite become null."""
    return json.dumps(_strict(asdict(record)), indent=2, ensure_ascii=False, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RecordListener:
    """Keeps run.json and metrics.csv of a run directory true.

    Both are written at the start and end of each phase and of the run, and after an epoch that
    ends `EPOCH_SECONDS` or more after the last writing: an epoch on stored features is shorter
    than writing it down.

    Args:
        directory: the run directory; made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: list[MetricRow] = []
        self._written = -math.inf
        directory.mkdir(parents=True, exist_ok=True)

    def run_started(self, record: RunRecord) -> None:
        """Writes the record before anything is spent."""
        self._write(record)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the record with the phase's counts."""
        self._write(record)

    def extracting(self, what: str, done: int, total: int) -> None:
        """Writes nothing."""

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Writes nothing."""

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Takes the rows; writes if the last time was some time ago."""
        self._rows += rows
        if time.monotonic() - self._written >= EPOCH_SECONDS:
            self._write(record)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the record with the phase's proof."""
        self._write(record)

    def run_ended(self, record: RunRecord) -> None:
        """Writes the record with its last status."""
        self._write(record)

    def _write(self, record: RunRecord) -> None:
        self._written = time.monotonic()
        if self._rows:
            write_atomically(self._directory / "metrics.csv", to_csv(self._rows))
        write_atomically(self._directory / "run.json", to_json(record))


def to_csv(rows: Iterable[MetricRow]) -> str:
    """Returns metrics.csv with its header; floats keep every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(MetricRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()

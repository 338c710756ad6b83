"""What a run writes down: the record of run.json, the rows of metrics.csv, and who listens.

Writers are atomic: a file is either as it was or as it should be, whenever the process dies.
"""

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from finetune.durable import write_atomically
from finetune.errors import ConfigError

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
    """Which data, by fingerprint, and how many samples each split has.

    `skipped`: bad samples left out, counted by split, the first 1000 named. `repeated`: samples in
    two splits. `ignored`: files that are no examples, by suffix.
    """

    name: str
    fingerprint: str
    num_classes: int
    classes: list[str]
    splits: dict[str, int]
    skipped: dict[str, Any] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)


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


@dataclass
class RunRecord:
    """What run.json and metrics.csv hold.

    `seconds`: total, imports, startup, extraction, training, evaluation. `history` is metrics.csv.
    `resumed` says where the run went on each time: phase, epoch and step, counted from 0.
    """

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
    resumed: list[dict[str, Any]] = field(default_factory=list)
    history: list[MetricRow] = field(default_factory=list)


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
        """See `Listener`; all of them hear of it, also where one fails."""
        with ExitStack() as stack:
            for each in reversed(self._listeners):
                stack.callback(each.run_ended, record)


def to_values(record: RunRecord) -> dict[str, Any]:
    """Returns the record as strict JSON values; numbers that are not finite become null."""
    return _strict(asdict(record))


def to_json(record: RunRecord) -> str:
    """Returns run.json, with a digest of all that it says; `history` is left to metrics.csv."""
    values = to_values(record)
    del values["history"]
    sealed = {**values, "sha256": digest_of(values)}
    return json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a run.json, and checks that it is what was written.

    Raises:
        ConfigError: for one that is damaged.
        FileNotFoundError: for none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seal = values.pop("sha256")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} must be the record of a run. Received: {error}.") from error
    if seal != digest_of(values):
        raise ConfigError(
            f"{path} must be as the run wrote it. Received: values that do not match its sha256. "
            f"Write it anew from the run's checkpoint: python -m finetune resume {path.parent}."
        )
    return values


def digest_of(values: Any) -> str:
    """Returns the sha256 of JSON values, whatever the order of their keys and their spaces."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def go_on(record: RunRecord, earlier: Mapping[str, Any]) -> None:
    """Takes what an earlier process has come to into the record of a run that goes on.

    Args:
        record: of the run as it is built now; changed in place.
        earlier: what `to_values` returned then.
    """
    record.features = [FeatureDecision(**each) for each in earlier["features"]]
    record.phases = [_phase(each) for each in earlier["phases"]]
    record.history = [MetricRow(**each) for each in earlier["history"]]
    record.seconds = dict(earlier["seconds"])
    record.peak_memory_bytes = earlier["peak_memory_bytes"]
    record.resumed = list(earlier["resumed"])


def _phase(values: Mapping[str, Any]) -> PhaseRecord:
    phase = PhaseRecord(**values)
    if phase.frozen_proof is not None:
        phase.frozen_proof = FrozenProof(**values["frozen_proof"])
    return phase


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
        """Writes if the last time was some time ago."""
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
        if record.history:
            write_atomically(self._directory / "metrics.csv", to_csv(record.history))
        write_atomically(self._directory / "run.json", to_json(record))


def to_csv(rows: Iterable[MetricRow]) -> str:
    """Returns metrics.csv with its header; floats keep every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(MetricRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()

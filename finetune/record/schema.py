"""What a run writes down: the record of run.json, the rows of metrics.csv, and who listens."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
STATES = ("trainable", "frozen", "untrainable")  # of a weight; each is in one of them
# Parts of a run that do not overlap; building is of data and model, evaluation of validation and test,
# saving of checkpoints and the model.
SECONDS = ("imports", "building", "extraction", "training", "evaluation", "saving", "reporting")
UNITS = ("weights", "parameters")  # variables, and the numbers in them
OWN = "own"  # source of a backbone that is the user's own model, trained by FineTuner
Count = dict[str, int]


def non_trainable(states: Mapping[str, Any]) -> Count:
    """Returns what Keras calls non-trainable: the sum of the frozen and the untrainable counts."""
    return {unit: states["frozen"][unit] + states["untrainable"][unit] for unit in UNITS}


def count_text(count: Mapping[str, int]) -> str:
    """Returns a count as it is shown everywhere: weights / parameters.

    >>> count_text({"weights": 45, "parameters": 1_227_712})
    '45 / 1,227,712'
    """
    return f"{count['weights']:,} / {count['parameters']:,}"


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

    `weights` says how many weights were ``loaded`` from the checkpoint, of how many in ``total``, and
    which were ``absent`` from it. `preprocessing` is what the checkpoint asks of the data: size,
    scale, mean, tokenizer.
    """

    name: str
    source: str
    weights_sha256: str
    stages: list[dict[str, Any]]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    preprocessing_sha256: str = ""
    weights: dict[str, Any] = field(default_factory=dict)

    @property
    def loaded(self) -> str | None:
        """How many weights came from the checkpoint, for people; None for a user's own model."""
        return loaded_weights(self.weights) if self.weights else None

    @property
    def own(self) -> bool:
        """Whether the whole model is the user's own, trained by FineTuner."""
        return self.source == OWN


@dataclass(frozen=True)
class Sample:
    """A training example as the model gets it.

    Args:
        source: where it comes from: a file, or a row of one.
        label: the names of its classes.
        image: a picture below the run directory, at the model's size and before scaling.
        augmented: the same picture as the first epoch augments it; None without augmentation.
        augmented_label: shares of the classes after MixUp or CutMix; None where the label stays.
        text: the beginning of a text.
        tokens: the first tokens of that text.
        tokens_read: the number of tokens that the model reads.
        tokens_whole: the number of tokens that the whole text has; larger where it is truncated.
    """

    source: str
    label: str
    image: str | None = None
    augmented: str | None = None
    augmented_label: str | None = None
    text: str | None = None
    tokens: list[str] = field(default_factory=list)
    tokens_read: int = 0
    tokens_whole: int = 0


def loaded_weights(weights: Mapping[str, Any]) -> str:
    """Returns `BackboneRecord.weights` as a line."""
    if weights["loaded"] == 0:
        return f"{weights['total']} weights drawn at random"
    text = f"loaded {weights['loaded']} of {weights['total']} weights"
    absent = ", ".join(weights["absent"])
    return f"{text}; not in the checkpoint and not used: {absent}" if absent else text


@dataclass
class DatasetRecord:
    """Which data, by fingerprint, and how many samples each split has.

    `skipped`: bad samples left out, counted by split, the first 1000 named. `repeated`: samples in
    two splits. `ignored`: files that are no examples, by suffix, and what is no data, by kind.
    `split_sources`: the folder, file or array that each split is, or is a share of. `unused`: folders
    and files beside those that are in no split. `multi_label`: whether an example has several labels;
    accuracy is then of the decisions for and against each. `class_counts`: the examples of each class
    by split, in the order of `classes`. `samples`: a few training examples.
    """

    name: str
    fingerprint: str
    num_classes: int
    classes: list[str]
    splits: dict[str, int]
    skipped: dict[str, Any] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    split_sources: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    multi_label: bool = False
    class_counts: dict[str, list[int]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


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
        below: by stage, the share of its weights that is below the cut, in (0, 1]; stages of which
            none is are left out. The cut runs above the last of them.
    """

    phase: str
    cut: str | None
    reason: str
    stored: bool = False
    bytes_per_sample: int = 0
    bytes: int = 0
    saves_seconds: float = 0.0
    costs_seconds: float = 0.0
    below: dict[str, float] = field(default_factory=dict)


@dataclass
class PhaseRecord:
    """One phase: its plan, what trained, the proof, and the results.

    `best_epoch` is the global epoch, from 0, whose weights were restored: the best by `monitor` on the
    validation split. It is None if the weights of the last epoch were kept.

    `monitored` holds the monitored metric on the validation split after each epoch, unless it is
    the loss or the accuracy, which are in the history.

    `weight_change` is, by stage, ‖after − before‖ / ‖before‖ of its weights over the phase; 0 for a
    stage whose weights the phase held.
    """

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
    monitor: str = "loss"
    monitored: list[float | None] = field(default_factory=list)
    best_epoch: int | None = None
    seconds: float = 0.0
    frozen_proof: FrozenProof | None = None
    features: dict[str, Any] = field(default_factory=lambda: {"cached": False})
    solver: dict[str, Any] = field(default_factory=lambda: {"name": "gradient"})
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    weight_change: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """An example of the test split that the model was sure of, and wrong.

    Args:
        source: where it comes from: a file, or a row of one.
        label: name of its class.
        predicted: name of the class that the model chose.
        probability: that the model gave to `predicted`, in [0, 1].
        text: the start of a text.
        image: file of a thumbnail below the run directory, a PNG.
    """

    source: str
    label: str
    predicted: str
    probability: float
    text: str | None = None
    image: str | None = None


@dataclass
class EvaluationDetails:
    """What the test split shows beside its metrics.

    `confusion`: [class, predicted class, number of examples], indices of classes, only those that
    occur, most frequent first, at most 10,000; of one label alone. `reliability`: one entry for
    each of the bins of the calibration error that holds predictions: confidence (mean), accuracy,
    count. `mistakes`: the most confident first.
    """

    confusion: list[list[int]] = field(default_factory=list)
    reliability: list[dict[str, float]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass(frozen=True)
class Interval:
    """Where the true accuracy lies, as far as the examples of a split tell.

    Args:
        low: lower bound, in [0, 1].
        high: upper bound, in [0, 1].
        examples: number of independent examples that it was measured on.
        confidence: share of such intervals that hold the true accuracy.
        method: by which it was computed.
    """

    low: float
    high: float
    examples: int
    confidence: float = 0.95
    method: str = "Wilson score"


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

    `started`: when the command was called, in ISO 8601 with the offset from UTC.
    `seconds`: total; startup (until the first training step, all before it included); and `SECONDS`,
    the parts of the total. `history` is metrics.csv.
    `resumed` says where the run went on each time: phase, epoch and step, counted from 0.
    `test_interval` is of the test accuracy. `remarks` judge the run at its end, in sentences.
    `metrics_sha256` is of metrics.csv, `model_sha256` of each file in model/.
    `plugins` are the package and version of each plug-in entry, by ``group.name``; `directions` say of
    the metrics of plug-ins whether larger (``max``) or smaller (``min``) is better.
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
    started: str = ""
    features: list[FeatureDecision] = field(default_factory=list)
    phases: list[PhaseRecord] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    test_interval: Interval | None = None
    test_per_class: list[dict[str, Any]] = field(default_factory=list)
    test_details: EvaluationDetails = field(default_factory=EvaluationDetails)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    resumed: list[dict[str, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    metrics_sha256: str = ""
    model_sha256: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    history: list[MetricRow] = field(default_factory=list)


def go_on(record: RunRecord, earlier: RunRecord) -> None:
    """Takes what an earlier process has come to into the record of a run that goes on.

    Args:
        record: of the run as it is built now; changed in place.
        earlier: of the process before.
    """
    for name in ("features", "phases", "history", "peak_memory_bytes", "resumed"):
        setattr(record, name, copy.deepcopy(getattr(earlier, name)))
    record.started = earlier.started or record.started
    for part, seconds in earlier.seconds.items():
        record.seconds[part] = record.seconds.get(part, 0.0) + seconds

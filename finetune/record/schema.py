"""The record of a run: the content of run.json and the rows of metrics.csv."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
STATES = ("trainable", "frozen", "untrainable")  # every weight is in one of them
# Parts of a run that do not overlap. Data and model are built; validation and test are evaluated;
# checkpoints and the model are saved.
SECONDS = ("imports", "building", "extraction", "training", "evaluation", "saving", "reporting")
UNITS = ("weights", "parameters")  # variables, and the numbers in them
OWN = "own"  # source of a backbone that is the user's own model, trained by FineTuner
Count = dict[str, int]


def non_trainable(states: Mapping[str, Any]) -> Count:
    """Returns the count of what Keras calls non-trainable: frozen and untrainable weights together."""
    return {unit: states["frozen"][unit] + states["untrainable"][unit] for unit in UNITS}


def count_text(count: Mapping[str, int]) -> str:
    """Returns a count as every output shows it: weights / parameters.

    >>> count_text({"weights": 45, "parameters": 1_227_712})
    '45 / 1,227,712'
    """
    return f"{count['weights']:,} / {count['parameters']:,}"


@dataclass
class FrozenProof:
    """Number of weights that a phase held, and their combined digest before and after it."""

    weights_checked: int
    weights_changed: int
    sha256_before: str
    sha256_after: str


@dataclass
class BackboneRecord:
    """The pretrained network, with the digest of its weights, and its stages.

    `weights` says how many weights were ``loaded`` from the checkpoint, how many there are in
    ``total``, and which were ``absent`` from it. `preprocessing` holds what the checkpoint requires of
    the data, such as size, scale, mean and tokenizer.
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
        """A text about how many weights the checkpoint has; None for a user's own model."""
        return loaded_weights(self.weights) if self.weights else None

    @property
    def own(self) -> bool:
        """Whether the whole model is the user's own, trained by `FineTuner`."""
        return self.source == OWN


@dataclass(frozen=True)
class Sample:
    """A training example as the model gets it.

    Args:
        source: A file, or a row of a file.
        label: Names of its classes.
        image: File of a picture below the run directory, at the model's size and before scaling.
        augmented: File of the same picture as the first epoch augments it; None without augmentation.
        augmented_label: Shares of the classes after MixUp or CutMix; None without them.
        text: Start of a text.
        tokens: First tokens of that text.
        tokens_read: Number of tokens that the model reads.
        tokens_whole: Number of tokens of the whole text; larger if the text is truncated.
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
    """Returns `BackboneRecord.weights` as one line of text."""
    if weights["loaded"] == 0:
        return f"{weights['total']} weights drawn at random"
    text = f"loaded {weights['loaded']} of {weights['total']} weights"
    absent = ", ".join(weights["absent"])
    return f"{text}; not in the checkpoint and not used: {absent}" if absent else text


@dataclass
class DatasetRecord:
    """The data, with their fingerprint, and the number of samples in each split.

    Args:
        name: Name of the dataset.
        fingerprint: Digest that changes with any sample.
        num_classes: Number of classes.
        classes: Names of the classes, in the order of the outputs.
        splits: Number of samples by split.
        skipped: Bad samples that were left out, counted by split; the first 1000 are named.
        repeated: Number of samples that are in two splits, by pair of splits.
        ignored: Number of files that are not examples, by suffix or kind.
        split_sources: Folder, file or array of each split, or of which it is a share.
        unused: Folders and files that belong to no split.
        multi_label: Whether a sample may have several labels. The accuracy is then the share of
            correct decisions over all classes.
        class_counts: Number of samples of each class by split, in the order of `classes`.
        samples: A few training examples.
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
        phase: Name of the phase.
        cut: Names of the layers whose outputs are stored; None if there is no frozen prefix.
        reason: Reason in words.
        stored: The decision.
        bytes_per_sample: Size of one sample on disk.
        bytes: Size of everything that the phase reads.
        saves_seconds: Seconds of forward passes that training saves.
        costs_seconds: Seconds for computing and writing what is not stored yet.
        below: By stage, the share of its weights that is below the cut, in (0, 1]. Stages above the
            cut are left out.
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
    """An example of the test split that the model misclassified with high confidence.

    Args:
        source: A file, or a row of a file.
        label: Name of its class.
        predicted: Name of the class that the model predicted.
        probability: Predicted probability of `predicted`, in [0, 1].
        text: Start of a text.
        image: File of a thumbnail below the run directory, a PNG.
    """

    source: str
    label: str
    predicted: str
    probability: float
    text: str | None = None
    image: str | None = None


@dataclass
class EvaluationDetails:
    """Results on the test split apart from its metrics.

    Args:
        confusion: Entries [class, predicted class, number of examples] with indices of classes that
            occur, most frequent first, at most 10,000; empty for multi-label data.
        reliability: Mean confidence, accuracy and count of each bin of the calibration error that
            holds predictions.
        mistakes: Misclassified examples, the most confident first.
    """

    confusion: list[list[int]] = field(default_factory=list)
    reliability: list[dict[str, float]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of the accuracy.

    Args:
        low: Lower bound, in [0, 1].
        high: Upper bound, in [0, 1].
        examples: Number of independent examples on which the accuracy was measured.
        confidence: Share of such intervals that contain the true accuracy.
        method: Name of the method.
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
    """The content of run.json and metrics.csv.

    Args:
        config: The config, with every value.
        overrides: Overrides as the user typed them.
        seed: Seed of the run.
        versions: Versions of Python, this program and the libraries.
        device: What the run computed on.
        backbone: The pretrained network.
        dataset: The data.
        schema: Version of this format.
        status: ``running``, ``completed``, ``interrupted`` or ``failed``.
        started: When the command started, in ISO 8601 with the offset from UTC.
        features: Decisions about storing features, one a phase.
        phases: The phases that have started.
        test: Metrics of the test split.
        test_interval: Confidence interval of the test accuracy.
        test_per_class: Precision, recall, F1 and support of each class.
        test_details: Confusion, reliability and mistakes on the test split.
        seconds: ``total``; ``startup``, everything before the first training step; and the parts of
            the total, which `SECONDS` names.
        peak_memory_bytes: Largest amount of memory that a process of the run held.
        resumed: Phase, epoch and step, from 0, at which the run was resumed each time.
        remarks: Sentences that judge the completed run.
        metrics_sha256: Digest of metrics.csv.
        model_sha256: Digest of each file in ``model/``.
        plugins: Package and version of each plug-in entry, by ``group.name``.
        directions: For each metric of a plug-in, whether larger (``max``) or smaller (``min``) is
            better.
        history: The rows of metrics.csv.
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


def resume_record(record: RunRecord, earlier: RunRecord) -> None:
    """Copies the results of an earlier process into the record of a run that resumes.

    Args:
        record: Record of the run as it is built now; changed in place.
        earlier: Record of the earlier process.
    """
    for name in ("features", "phases", "history", "peak_memory_bytes", "resumed"):
        setattr(record, name, copy.deepcopy(getattr(earlier, name)))
    record.started = earlier.started or record.started
    for part, seconds in earlier.seconds.items():
        record.seconds[part] = record.seconds.get(part, 0.0) + seconds

"""Loads a trained model from its run directory alone, without the data or the pretrained backbone."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from finetune.backbones import archives
from finetune.backbones import loading as backbone_loading
from finetune.backbones.own import last_activation
from finetune.backbones.saving import LABELS_FILE, MODEL_FILE
from finetune.backbones.untrusted import check_h5, read_json, require_inside
from finetune.errors import ConfigError
from finetune.inference.completed import MODEL, read_completed
from finetune.record.schema import RunRecord
from finetune.tasks import heads
from finetune.tasks.objective import MULTI_LABEL, ONE, Objective
from finetune.training.device import state_kept, use_channels_last

_WHERE = "RUN_DIR"
_TASK_WEIGHTS = "task.weights.h5"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The task model of a completed run with its preprocessing and label names.

    Args:
        directory: Run directory.
        record: Record of the run.
        model: Model from preprocessed inputs to (batch, classes) outputs; see `objective`.
        classes: Label names in the order of the outputs.
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
        objective: Meaning of the outputs: one label or multi-label, logits or probabilities.
        preprocessor: KerasHub preprocessor. A text model's makes the inputs, an image model's holds
            the `image_converter`. A user's own model has one only if its task has one.
        image_size: (height, width) of the images that an image model takes; None for other models.
    """

    directory: Path
    record: RunRecord
    model: keras.Model
    classes: tuple[str, ...]
    kind: str
    objective: Objective
    preprocessor: Any = None
    image_size: tuple[int, int] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an example may have any number of labels."""
        return self.objective.kind == MULTI_LABEL

    @property
    def from_logits(self) -> bool:
        """Whether the outputs are logits rather than probabilities."""
        return self.objective.from_logits

    @property
    def image_converter(self) -> Any:
        """KerasHub converter from images (height, width, 3) in 0..255 to model inputs."""
        return self.preprocessor.image_converter


def load_trained(run_directory: str | Path) -> TrainedModel:
    """Loads the model of a completed run in the precision of its training.

    The SHA-256 of every file is checked. No file chooses the code that runs: backbone and head are
    built by the code that built them for training, and only weights are read. A user's own model of
    a `FineTuner` run may hold layers of Keras and layers that this process has registered.

    Args:
        run_directory: Directory of a run of the command line or of `FineTuner`.

    Raises:
        ConfigError: If the path is not a run directory, the run has not completed, the model is
            damaged or has changed, or the process does not know its layers.
    """
    directory = Path(os.path.abspath(run_directory))
    return of_record(directory, read_completed(directory))


def of_record(run_directory: Path, record: RunRecord) -> TrainedModel:
    """Loads the model of a completed run whose files have been checked.

    Args:
        run_directory: Directory of the run.
        record: Record that `read_completed` returned.

    Raises:
        ConfigError: In the cases of `load_trained`.
    """
    directory = Path(os.path.abspath(run_directory))
    folder = directory / MODEL
    require_inside(folder, folder.rglob("*"), _WHERE)
    classes, multi_label = _labels(folder)
    with state_kept():
        if record.backbone.own:
            return _own(directory, record, classes, multi_label)
        keras.config.set_floatx("float32")  # as `finetune.training.device.prepare` does
        use_channels_last()
        keras.config.set_dtype_policy(record.device["precision"])
        return _of_backbone(directory, record, classes, multi_label)


def _of_backbone(
    directory: Path, record: RunRecord, classes: tuple[str, ...], multi_label: bool
) -> TrainedModel:
    folder = directory / MODEL
    # A head that KerasHub does not have is saved together with the backbone.
    whole = MODEL_FILE in record.model_sha256
    loaded = backbone_loading.load(path=folder, load_weights=not whole, where=_WHERE)
    head = record.config["head"]
    task: Any = heads.build_task(
        loaded, len(classes), pooling=head["pooling"], dropout=head["dropout"], seed=0
    )
    if whole:
        archives.read_weights(task, folder / MODEL_FILE, _WHERE)
    else:
        _read_head(task, folder / _TASK_WEIGHTS)
    return TrainedModel(
        directory=directory,
        record=record,
        model=task,
        classes=classes,
        kind=loaded.kind,
        objective=Objective(MULTI_LABEL if multi_label else ONE, len(classes)),
        preprocessor=loaded.preprocessor,
        image_size=loaded.image_size,
    )


def _read_head(task: Any, file: Path) -> None:
    """Reads the weights of the head."""
    check_h5(file, _WHERE)
    try:
        with warnings.catch_warnings():  # Keras warns before it raises
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            task.load_task_weights(str(file))
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(
            f"{_WHERE} must hold weights of the model that its record describes. Received: {file} "
            f"({str(error).strip().splitlines()[0].rstrip('.')}). Copy the run directory again."
        ) from error


def _own(
    directory: Path, record: RunRecord, classes: tuple[str, ...], multi_label: bool
) -> TrainedModel:
    folder, preprocessor = directory / MODEL, None
    if (folder / MODEL_FILE).exists():
        model: Any = archives.read_model(folder / MODEL_FILE, _WHERE)
    else:
        model = archives.read_task(folder, _WHERE)
        preprocessor, model.preprocessor = model.preprocessor, None
    activation, _ = last_activation(model)
    return TrainedModel(
        directory=directory,
        record=record,
        model=model,
        classes=classes,
        kind="array",
        objective=Objective(
            MULTI_LABEL if multi_label else ONE, len(classes), activation == "linear"
        ),
        preprocessor=preprocessor,
    )


def _labels(folder: Path) -> tuple[tuple[str, ...], bool]:
    """Returns the label names in the order of the outputs, and whether the model is multi-label."""
    labels = read_json(folder / LABELS_FILE, _WHERE)
    classes, multi_label = labels.get("classes"), labels.get("multi_label")
    if (
        not isinstance(classes, list)
        or not all(isinstance(name, str) for name in classes)
        or len(set(classes)) < len(classes)
        or len(classes) < 2
        or not isinstance(multi_label, bool)
    ):
        raise ConfigError(
            f"{_WHERE} must hold the label names in {LABELS_FILE}. Received: {folder / LABELS_FILE} "
            "without classes and multi_label. Copy the run directory again."
        )
    return tuple(classes), multi_label

"""Loads what a run has trained from its directory alone: no data, no pretrained backbone again."""

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
    """A task model as its run left it, with all that makes its inputs and names its outputs.

    Args:
        directory: of the run.
        record: what the run wrote down.
        model: inputs as the preprocessing makes them -> (batch, classes), see `objective`.
        classes: label names in the order of the outputs.
        kind: of the examples: ``image``, ``text`` or ``array``.
        objective: what the outputs are: of one label or several, logits or probabilities.
        preprocessor: KerasHub's. Of texts it makes the inputs; of images it holds the
            `image_converter`; of arrays, where a task of the user's has one, it makes the inputs.
        image_size: (height, width) of the images that the model takes; None for all else.
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
        """Whether an example may have several labels, or none."""
        return self.objective.kind == MULTI_LABEL

    @property
    def from_logits(self) -> bool:
        """Whether the outputs of the model are logits, and no probabilities yet."""
        return self.objective.from_logits

    @property
    def image_converter(self) -> Any:
        """KerasHub's, of images: (height, width, 3) of 0..255 -> model input."""
        return self.preprocessor.image_converter


def load_trained(run_directory: str | Path) -> TrainedModel:
    """Loads the model of a completed run, in the precision that it was trained in.

    Every file is what the run wrote, by its sha256. No file chooses what runs: backbone and head are
    built by the code that built them for training, and read their weights alone. Of FineTuner's
    runs, which have models of the user's own, the layers are Keras' or registered by this process.

    Args:
        run_directory: of a run of the command line or of FineTuner.

    Raises:
        ConfigError: for a directory that is none, a run that is not at its end, a model that is
            damaged or not as the run wrote it, or layers that are not known here.
    """
    directory = Path(os.path.abspath(run_directory))
    return of_record(directory, read_completed(directory))


def of_record(run_directory: Path, record: RunRecord) -> TrainedModel:
    """Loads the model of a completed run, once its files have been checked.

    Args:
        run_directory: of the run.
        record: as `read_completed` returned it.

    Raises:
        ConfigError: as `load_trained`.
    """
    directory = Path(os.path.abspath(run_directory))
    folder = directory / MODEL
    require_inside(folder, (each for each in folder.rglob("*")), _WHERE)
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
    # A head of ours is saved with the backbone, in one file.
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
    """Reads the weights that are not the backbone's."""
    check_h5(file, _WHERE)
    try:
        with warnings.catch_warnings():  # Keras' own precedes the error
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
    """Returns the label names in the order of the outputs, and whether several may be right."""
    labels = read_json(folder / LABELS_FILE, _WHERE)
    classes, multi_label = labels.get("classes"), labels.get("multi_label")
    if (
        not isinstance(classes, list)
        or not all(isinstance(each, str) for each in classes)
        or len(set(classes)) < len(classes)
        or len(classes) < 2
        or not isinstance(multi_label, bool)
    ):
        raise ConfigError(
            f"{_WHERE} must hold the label names in {LABELS_FILE}. Received: {folder / LABELS_FILE} "
            "without classes and multi_label. Copy it again from where it was made."
        )
    return tuple(classes), multi_label

"""The public Python API of a trained model: load a run, predict and evaluate."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.backbones.own_preprocessing import preprocessed
from finetune.config.used_plugins import require_still_there
from finetune.datasets.bad_samples import text_reason
from finetune.datasets.python.data import fitting_inputs, read_split
from finetune.errors import ConfigError
from finetune.evaluation.named import probabilities_of
from finetune.inference.evaluating import evaluate
from finetune.inference.examples import Example, Failure
from finetune.inference.predicting import Predictor, forward
from finetune.inference.seen import said_of, seen_in_training
from finetune.inference.trained import TrainedModel, load_trained
from finetune.launcher import command
from finetune.storage.run_directory import expanded

log = logging.getLogger(__name__)

_SHOWN = 20


class LoadedRun:
    """The trained model of a run, ready for predictions. `finetune.load` returns it.

    Args:
        trained: Model with its preprocessing and the record of its run.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._predictors: dict[int, Predictor] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""
        return self.trained.classes

    @cached_property
    def _forward(self) -> Callable[[Any], np.ndarray]:
        return forward(self.trained)

    def predict(self, examples: Any, batch_size: int = 32) -> np.ndarray:
        """Returns the probability of each class for each example.

        Args:
            examples: Examples in the form that the model takes. An image model takes a list of paths
                and of arrays (height, width, 1 or 3) in 0..255, or one array (n, height, width, 1 or
                3). A text model takes a list of str. A user's own model takes its inputs, (n, …).
            batch_size: Number of examples per batch, at least 1.

        Returns:
            (n, classes) float64 in [0, 1]. Rows sum to 1 unless the model is multi-label.

        Raises:
            ConfigError: If examples do not fit the model or files cannot be read. The message names
                them.
        """
        if batch_size < 1:
            raise ConfigError(
                f"batch_size must be at least 1. Received: {batch_size}. 32 is usual."
            )
        if self.trained.kind == "array":
            return self._of_inputs(examples, batch_size)
        items = _items(self.trained.kind, examples)
        if batch_size not in self._predictors:  # keeps the traced functions
            self._predictors[batch_size] = Predictor(self.trained, batch_size)
        found = [answer for batch in self._predictors[batch_size](items) for answer in batch]
        failed = [f"{a.source} ({a.reason})" for a in found if isinstance(a, Failure)]
        if failed:
            more = ", …" if len(failed) > _SHOWN else ""
            raise ConfigError(
                f"examples must be readable {self.trained.kind}s. Received: {len(failed)} that "
                f"cannot be read: {', '.join(failed[:_SHOWN])}{more}. Fix or remove them."
            )
        rows = [answer.probabilities for answer in found if not isinstance(answer, Failure)]
        return np.stack(rows) if rows else np.zeros((0, len(self.classes)))

    def evaluate(self, inputs: Any, labels: Any, batch_size: int = 32) -> dict[str, float]:
        """Returns the metrics of a user's own model; `evaluate` of the command line takes all others.

        Args:
            inputs: (n, …) inputs as they were given to `FineTuner`.
            labels: (n,) class indices or names, or (n, classes) multi-hot rows.
            batch_size: Number of examples per batch, at least 1.

        Returns:
            The metrics that the record of a run holds for its test split: loss, accuracy and others.

        Raises:
            ConfigError: If the data do not fit the model, or if a metric of a plug-in is gone.
        """
        trained = self.trained
        if trained.kind != "array":
            raise ConfigError(
                f"evaluate must be called on a run of FineTuner. Received: {trained.directory}, a run "
                f"of the command line. Use {command('evaluate', trained.directory)}."
            )
        plugins = trained.record.plugins.items()
        metrics = {key: origin for key, origin in plugins if key.startswith("metrics.")}
        require_still_there(trained.directory, metrics)
        given = preprocessed({"data": (inputs, labels)}, trained.preprocessor)["data"]
        split = read_split("data", given, trained.model, trained.classes, trained.multi_label)
        if (split.labels.ndim == 2) != trained.multi_label:
            kind = "0 or 1 for each class" if trained.multi_label else "one class per example"
            raise ConfigError(
                f"labels must be {kind}, as in training. Received: shape {split.labels.shape}. "
                "Convert them."
            )
        warning = said_of(seen_in_training(trained.directory, split), split.num_examples)
        if warning is not None:
            log.warning(warning)
        return evaluate(trained, split, "array", batch_size).metrics

    def _of_inputs(self, inputs: Any, batch_size: int) -> np.ndarray:
        given = preprocessed({"examples": (inputs, None)}, self.trained.preprocessor)
        whole = fitting_inputs("examples", given["examples"][0], self.trained.model)
        number = len(tf.nest.flatten(whole)[0])
        outputs = [
            self._forward(
                tf.nest.map_structure(lambda array, at=first: array[at : at + batch_size], whole)
            )
            for first in range(0, number, batch_size)
        ]
        if not outputs:
            return np.zeros((0, len(self.classes)))
        return probabilities_of(np.concatenate(outputs), self.trained.objective)


def load(run_directory: str | Path) -> LoadedRun:
    """Loads the model of a completed run from its directory alone.

    Args:
        run_directory: Directory of a run of the command line or of `FineTuner`. Import the modules
            of your own layers first, so that the layers are registered.

    Raises:
        ConfigError: If the directory holds no completed run, or if the model has changed since the
            run wrote it.
    """
    return LoadedRun(load_trained(expanded(run_directory, "run_directory")))


def _items(kind: str, examples: Any) -> list[Example]:
    if isinstance(examples, str | bytes | os.PathLike) or not isinstance(
        examples, Sequence | np.ndarray
    ):
        raise ConfigError(
            f"examples must be a list of {kind}s. Received: {type(examples).__name__}. Put it into "
            "a list."
        )
    make = _image if kind == "image" else _text
    return [make(row, example) for row, example in enumerate(examples)]


def _image(row: int, given: Any) -> Example:
    if isinstance(given, str | os.PathLike):
        return Example(os.fspath(given), Path(given))
    pixels = np.asarray(given)
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))
    if not shaped or pixels.size == 0 or pixels.dtype.kind not in "uif":
        raise ConfigError(
            "examples must be paths or images (height, width, 1 or 3) in 0..255. Received: "
            f"{pixels.dtype} {pixels.shape} at index {row}. Convert it."
        )
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 255):
        raise ConfigError(
            f"examples must be images in 0..255. Received: values {pixels.min()}..{pixels.max()} "
            f"at index {row}. Leave the scaling to the model's own preprocessing."
        )
    return Example(f"image {row}", pixels)


def _text(row: int, given: Any) -> Example:
    reason = text_reason(given)
    if reason is not None:
        raise ConfigError(
            f"examples must be texts. Received: an example {reason} at index {row}. Remove it."
        )
    return Example(f"text {row}", given)

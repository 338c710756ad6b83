"""The public Python API of a trained model: load a run, ask it, measure it."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.backbones.own_preprocessing import preprocessed
from finetune.datasets.bad_samples import text_reason
from finetune.datasets.python.data import fitting_inputs, read_split
from finetune.errors import ConfigError
from finetune.inference.evaluating import evaluate
from finetune.inference.examples import Example, Failure
from finetune.inference.predicting import Predictor, forward, probabilities
from finetune.inference.seen import said_of, seen_in_training
from finetune.inference.trained import TrainedModel, load_trained
from finetune.launcher import command
from finetune.storage.run_directory import expanded

log = logging.getLogger(__name__)

_SHOWN = 20


class LoadedRun:
    """What a run has trained, ready to be asked. `finetune.load` makes it.

    Args:
        trained: the model, with its preprocessing and its record.
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
            examples: of a model of images: paths, and arrays (height, width, 1 or 3) of 0..255, in a
                list, or one array (n, height, width, 1 or 3). Of texts: a list of str. Of a model of
                the user's own: inputs as the model takes them, (n, …).
            batch_size: examples that are computed at once, at least 1.

        Returns:
            (n, classes) float64 in [0, 1]; the rows of a model of one label sum to 1.

        Raises:
            ConfigError: for examples that do not fit the model, or naming the files that cannot be
                read.
        """
        if batch_size < 1:
            raise ConfigError(
                f"batch_size must be at least 1. Received: {batch_size}. 32 is usual."
            )
        if self.trained.kind == "array":
            return self._of_inputs(examples, batch_size)
        items = _items(self.trained.kind, examples)
        if batch_size not in self._predictors:  # its programs are kept
            self._predictors[batch_size] = Predictor(self.trained, batch_size)
        found = [each for batch in self._predictors[batch_size](items) for each in batch]
        failed = [f"{e.source} ({e.reason})" for e in found if isinstance(e, Failure)]
        if failed:
            more = ", …" if len(failed) > _SHOWN else ""
            raise ConfigError(
                f"examples must be {self.trained.kind}s that can be read. Received: {len(failed)} "
                f"that cannot: {', '.join(failed[:_SHOWN])}{more}. Fix them, or leave them out."
            )
        rows = [each.probabilities for each in found if not isinstance(each, Failure)]
        return np.stack(rows) if rows else np.zeros((0, len(self.classes)))

    def evaluate(self, inputs: Any, labels: Any, batch_size: int = 32) -> dict[str, float]:
        """Returns the metrics of a model of the user's own; the command line measures all others.

        Args:
            inputs: (n, …) as FineTuner was given them.
            labels: (n,) class indices or names; (n, classes) of 0 and 1 where an example may have
                several.
            batch_size: examples that are computed at once, at least 1.

        Returns:
            loss, accuracy and others, as the run's record has them of its test split.

        Raises:
            ConfigError: for data that do not fit the model.
        """
        trained = self.trained
        if trained.kind != "array":
            raise ConfigError(
                f"evaluate must be called on a run of FineTuner. Received: {trained.directory}, of "
                f"the command line. Use {command('evaluate', trained.directory)}."
            )
        given = preprocessed({"data": (inputs, labels)}, trained.preprocessor)["data"]
        split = read_split("data", given, trained.model, trained.classes, trained.multi_label)
        if (split.labels.ndim == 2) != trained.multi_label:
            kind = "0 and 1 for each class" if trained.multi_label else "one class an example"
            raise ConfigError(
                f"labels must be {kind}, what the model was trained with. Received: shape "
                f"{split.labels.shape}. Convert them."
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
                tf.nest.map_structure(lambda each, at=first: each[at : at + batch_size], whole)
            )
            for first in range(0, number, batch_size)
        ]
        if not outputs:
            return np.zeros((0, len(self.classes)))
        return probabilities(np.concatenate(outputs), self.trained.objective)


def load(run_directory: str | Path) -> LoadedRun:
    """Loads what a completed run has trained, from its directory alone.

    Args:
        run_directory: of a run of the command line or of `FineTuner`. Layers of the user's own must
            be registered by then: import their module.

    Raises:
        ConfigError: for a directory that holds no completed run, or a model that is not as the run
            wrote it.
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
    return [make(row, each) for row, each in enumerate(examples)]


def _image(row: int, given: Any) -> Example:
    if isinstance(given, str | os.PathLike):
        return Example(os.fspath(given), Path(given))
    pixels = np.asarray(given)
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))
    if not shaped or pixels.size == 0 or pixels.dtype.kind not in "uif":
        raise ConfigError(
            "examples must be paths, or images (height, width, 1 or 3) of 0..255. Received: "
            f"{pixels.dtype} {pixels.shape} at {row}. Convert it."
        )
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 255):
        raise ConfigError(
            f"examples must be images of 0..255. Received: values {pixels.min()}..{pixels.max()} "
            f"at {row}. The model's own preprocessing scales them."
        )
    return Example(f"image {row}", pixels)


def _text(row: int, given: Any) -> Example:
    reason = text_reason(given)
    if reason is not None:
        raise ConfigError(
            f"examples must be texts. Received: something {reason} at {row}. Leave it out."
        )
    return Example(f"text {row}", given)

"""Compares the probabilities of an artifact with those of the run's model on the same examples."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.datasets.readers import ImageReader
from finetune.errors import FinetuneError
from finetune.evaluation.named import probabilities_of
from finetune.inference.export import runtime
from finetune.inference.export.formats import Format
from finetune.inference.export.samples import Samples
from finetune.inference.export.serving import IMAGES, TEXTS
from finetune.inference.inputs import tokenize_of
from finetune.inference.trained import TrainedModel

TOLERANCE = 1e-4  # of probabilities: float32 kernels round differently
MIXED_TOLERANCE = 2e-2  # half precision has 8 or 11 significant bits, and some kernels use more


@dataclass(frozen=True)
class Parity:
    """Comparison of an artifact with the run's model.

    Args:
        samples: Number of samples.
        source: Origin of the samples.
        tolerance: Largest accepted difference of a probability.
        max_difference: Largest difference of a probability.
        agreement: Number of samples on which both predict the same class, or the same set of labels.
    """

    samples: int
    source: str
    tolerance: float
    max_difference: float
    agreement: int


def tolerance_of(trained: TrainedModel) -> float:
    """Returns the largest accepted difference of a probability."""
    return TOLERANCE if trained.record.device["precision"] == "float32" else MIXED_TOLERANCE


def compare(
    expected: np.ndarray, found: np.ndarray, multi_label: bool, tolerance: float, source: str
) -> Parity:
    """Compares two (n, classes) arrays of probabilities.

    Within the tolerance, the predicted class can differ only if the run's model prefers its class by
    less than twice the tolerance. The agreement is therefore reported but not judged.

    Raises:
        FinetuneError: If a probability differs by more than `tolerance` or is not finite.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise FinetuneError(
            f"the exported model must compute {expected.shape} probabilities. Received: "
            f"{found.shape}, of which {np.isfinite(found).mean():.0%} are finite. The export was "
            "discarded."
        )
    difference = float(np.abs(found - expected).max())
    if multi_label:
        same = ((found > 0.5) == (expected > 0.5)).all(1)
    else:
        same = found.argmax(1) == expected.argmax(1)
    if not difference <= tolerance:  # also true if the run's own probabilities are not finite
        raise FinetuneError(
            f"the exported model must compute the run's probabilities within {tolerance:g}. Received: "
            f"a difference of {difference:.3g}, with the same prediction on {same.sum()} of "
            f"{len(same)} samples ({source}). The export was discarded; another format may work."
        )
    return Parity(len(expected), source, tolerance, difference, int(same.sum()))


def expected_probabilities(trained: TrainedModel, samples: Samples) -> np.ndarray:
    """Returns the probabilities of the run's model with its own preprocessing."""
    given: Any
    if trained.kind == "image":
        reader = ImageReader(trained.image_size or (0, 0), trained.image_converter)
        given = np.stack(
            [reader.prepared(tf.constant(image)).numpy() for image in samples.examples]
        )
    elif trained.kind == "text":
        given = _tokens(trained, samples)
    else:
        given = keras.tree.pack_sequence_as(trained.model.input, list(samples.examples))
    outputs: Any = trained.model.predict(given, verbose=0)
    return probabilities_of(outputs, trained.objective)


def batches_for(
    trained: TrainedModel, samples: Samples, serving: keras.Model, target: Format
) -> list[runtime.Batch]:
    """Returns the samples as inputs of an artifact."""
    if trained.kind == "text":
        if target.texts:
            return [{TEXTS: np.asarray(samples.examples)}]
        return [_tokens(trained, samples)]
    if trained.kind == "array":
        names = [port.name for port in serving.inputs]
        return [dict(zip(names, samples.examples, strict=True))]
    images = samples.examples
    if serving.inputs[0].shape[1] is not None:
        images = [_resized(trained, image) for image in images]
    images = [image.astype(np.float32) for image in images]
    if len({image.shape for image in images}) == 1:
        return [{IMAGES: np.stack(images)}]
    return [{IMAGES: image[None]} for image in images]


def measure(
    target: Format, artifact: Path, batches: Sequence[runtime.Batch], alone: bool = True
) -> np.ndarray:
    """Returns the (n, classes) probabilities of an artifact.

    Args:
        target: Format of the artifact.
        artifact: File or folder of the artifact.
        batches: Batches of inputs by name.
        alone: Whether to run it in a separate process that has nothing but the runtime; otherwise in
            this process, which knows the layers that the user has registered.

    Raises:
        FinetuneError: If the runtime cannot run the artifact.
    """
    if not alone:
        return runtime.probabilities(target.name, artifact, batches)
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "inputs.npz"), Path(folder, "output.npy")
        np.savez(given, **runtime.pack(batches))  # type: ignore[arg-type]
        command = [sys.executable, "-I", runtime.__file__, target.name, artifact, given, answer]
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise FinetuneError(
                f"the exported model must run in {target.runtime}. Received: {last}. "
                "The export was discarded; another format may work."
            )
        return np.load(answer)


def _tokens(trained: TrainedModel, samples: Samples) -> dict[str, np.ndarray]:
    made = tokenize_of(trained.preprocessor)(samples.examples)
    names: Any = trained.model.input
    return {name: made[name] for name in names}


def _resized(trained: TrainedModel, image: np.ndarray) -> np.ndarray:
    """Returns an image resized to (height, width, 3) of the model, in 0..255."""
    converter = trained.image_converter
    resize = type(converter).from_config(converter.get_config() | {"scale": None, "offset": None})
    return np.asarray(resize(image.astype(np.float32)))

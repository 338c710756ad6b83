"""Whether an artifact gives what the run's model gives, on the same examples."""

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
from finetune.inference.export import runtime
from finetune.inference.export.formats import Format
from finetune.inference.export.samples import Samples
from finetune.inference.export.serving import IMAGES, TEXTS
from finetune.inference.inputs import tokenize_of
from finetune.inference.predicting import probabilities
from finetune.inference.trained import TrainedModel

TOLERANCE = 1e-4  # of probabilities: what other kernels make of the same float32 arithmetic
MIXED_TOLERANCE = 2e-2  # half precision keeps 8 or 11 bits, and other kernels keep more


@dataclass(frozen=True)
class Parity:
    """How an artifact compares with the run's model.

    Args:
        samples: number of them.
        source: where they come from.
        tolerance: of the largest difference of a probability.
        max_difference: the largest one.
        agreement: on how many samples both choose the same class; of several labels, the same ones.
    """

    samples: int
    source: str
    tolerance: float
    max_difference: float
    agreement: int


def tolerance_of(trained: TrainedModel) -> float:
    """Returns the largest difference that is let pass."""
    return TOLERANCE if trained.record.device["precision"] == "float32" else MIXED_TOLERANCE


def compare(
    expected: np.ndarray, found: np.ndarray, multi_label: bool, tolerance: float, source: str
) -> Parity:
    """Compares probabilities, (n, classes) each.

    Within the tolerance another class can be chosen only where the run's was ahead by less than twice
    as much; on how many samples none is, is told and not judged.

    Raises:
        FinetuneError: where one differs by more than `tolerance`, or is no number.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise FinetuneError(
            f"the exported model must give {expected.shape} probabilities. Received: {found.shape}, "
            f"{np.isfinite(found).mean():.0%} of them numbers. Nothing was kept of it."
        )
    difference = float(np.abs(found - expected).max())
    if multi_label:
        same = ((found > 0.5) == (expected > 0.5)).all(1)
    else:
        same = found.argmax(1) == expected.argmax(1)
    if not difference <= tolerance:  # also where the run itself gives no number
        raise FinetuneError(
            f"the exported model must give the run's probabilities within {tolerance:g}. Received: a "
            f"difference of {difference:.3g}, the same classes on {same.sum()} of {len(same)} samples "
            f"({source}). Nothing was kept of it; another format may do."
        )
    return Parity(len(expected), source, tolerance, difference, int(same.sum()))


def expected_probabilities(trained: TrainedModel, samples: Samples) -> np.ndarray:
    """Returns what the run's model gives, through its own preprocessing."""
    given: Any
    if trained.kind == "image":
        reader = ImageReader(trained.image_size or (0, 0), trained.image_converter)
        given = np.stack([reader.prepared(tf.constant(each)).numpy() for each in samples.examples])
    elif trained.kind == "text":
        given = _tokens(trained, samples)
    else:
        given = keras.tree.pack_sequence_as(trained.model.input, list(samples.examples))
    outputs: Any = trained.model.predict(given, verbose=0)
    return probabilities(outputs, trained.objective)


def batches_for(
    trained: TrainedModel, samples: Samples, serving: keras.Model, target: Format
) -> list[runtime.Batch]:
    """Returns the samples as an artifact takes them."""
    if trained.kind == "text":
        if target.texts:
            return [{TEXTS: np.asarray(samples.examples)}]
        return [_tokens(trained, samples)]
    if trained.kind == "array":
        names = [each.name for each in serving.inputs]
        return [dict(zip(names, samples.examples, strict=True))]
    images = samples.examples
    if serving.inputs[0].shape[1] is not None:
        images = [_resized(trained, each) for each in images]
    images = [each.astype(np.float32) for each in images]
    if len({each.shape for each in images}) == 1:
        return [{IMAGES: np.stack(images)}]
    return [{IMAGES: each[None]} for each in images]


def measure(
    target: Format, artifact: Path, batches: Sequence[runtime.Batch], alone: bool = True
) -> np.ndarray:
    """Returns the probabilities of an artifact, (n, classes).

    Args:
        target: its format.
        artifact: file or folder.
        batches: inputs by name.
        alone: in a process of its own, which knows nothing but the runtime; else in this one, which
            knows the layers that its user has registered.

    Raises:
        FinetuneError: if its runtime cannot run it.
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
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise FinetuneError(
                f"the exported model must run in {target.runtime}. Received: {last}. "
                "Nothing was kept of it; another format may do."
            )
        return np.load(answer)


def _tokens(trained: TrainedModel, samples: Samples) -> dict[str, np.ndarray]:
    made = tokenize_of(trained.preprocessor)(samples.examples)
    names: Any = trained.model.input
    return {name: made[name] for name in names}


def _resized(trained: TrainedModel, image: np.ndarray) -> np.ndarray:
    """Returns an image at the model's size, (height, width, 3), 0..255."""
    converter = trained.image_converter
    resize = type(converter).from_config(converter.get_config() | {"scale": None, "offset": None})
    return np.asarray(resize(image.astype(np.float32)))

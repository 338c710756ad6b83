"""Selects the examples for the parity check, from the run's own data if they can be read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from finetune.config import plugins
from finetune.config.saved import SAVED, read_saved
from finetune.config.schema import Config
from finetune.datasets.dataset import Split
from finetune.datasets.images.decoding import decoded
from finetune.datasets.load import load_dataset
from finetune.errors import ConfigError
from finetune.inference.trained import TrainedModel

NUMBER = 32
_SEED = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Examples before preprocessing.

    Args:
        source: Readable description of their origin.
        examples: (height, width, 3) uint8 images, texts, or the (n, …) inputs of a model by position.
    """

    source: str
    examples: Sequence[Any]


def find_samples(trained: TrainedModel) -> Samples:
    """Returns examples of the test split, of the validation split, or synthetic ones, in this order."""
    if not (trained.directory / SAVED).is_file():
        return _synthetic(trained, "the run directory does not name its data")
    try:
        config = read_saved(trained.directory)
        if not _on_this_machine(config):
            return _synthetic(trained, f"{config.dataset.name} is not on this machine")
        dataset = load_dataset(config.dataset, config.seed)
    except ConfigError:
        return _synthetic(trained, "the data of the run cannot be read")
    if dataset.fingerprint != trained.record.dataset.fingerprint:
        return _synthetic(trained, "the data have changed since the run")
    split = dataset.splits.get("test", dataset.splits["validation"])
    rows = np.unique(np.linspace(0, split.num_examples - 1, NUMBER).astype(int))
    source = f"{split.name} split of {dataset.name}"
    return Samples(source, _raw(split, rows, trained.kind))


def _on_this_machine(config: Config) -> bool:
    """Returns whether the data can be read without a download."""
    name = config.dataset.name
    if name in plugins.names("datasets"):
        return True
    default = os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets")
    return (Path(config.dataset.data_dir or default).expanduser() / name).is_dir()


def _raw(split: Split, rows: np.ndarray, kind: str) -> list[Any]:
    if kind == "text":
        return [str(split.examples[row]) for row in rows]
    images = []
    for row in rows:
        image = split.examples[row]
        if isinstance(image, bytes):
            image = decoded(image, None if split.ways is None else split.ways[row]).numpy()
        images.append(np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image)
    return images


def _synthetic(trained: TrainedModel, why: str) -> Samples:
    random = np.random.default_rng(_SEED)
    source = f"seeded synthetic examples: {why}"
    if trained.kind == "image":
        shape = (NUMBER, *(trained.image_size or ()), 3)
        return Samples(source, list(random.integers(0, 256, shape, dtype=np.uint8)))
    if trained.kind == "text":
        vocabulary = trained.preprocessor.tokenizer.get_vocabulary()
        # Byte-level vocabularies encode a space as a non-ASCII letter.
        plain = sorted(token for token in vocabulary if token.isascii() and token.isalpha())
        words = plain or list(vocabulary)
        texts = [" ".join(random.choice(words, random.integers(1, 20))) for _ in range(NUMBER)]
        return Samples(source, texts)
    inputs = [_numbers(spec, random) for spec in keras.tree.flatten(trained.model.input)]
    return Samples(source, inputs)


def _numbers(spec: Any, random: np.random.Generator) -> np.ndarray:
    """Returns random numbers for an input: normal floats, or integers 0 and 1."""
    shape = (NUMBER, *(8 if size is None else size for size in spec.shape[1:]))
    if keras.backend.is_float_dtype(spec.dtype):
        return random.normal(size=shape).astype(spec.dtype)
    return random.integers(0, 2, shape).astype(spec.dtype)

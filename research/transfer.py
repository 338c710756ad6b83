"""Measures how well a backbone transfers to handwritten digits: the figures in its model card.

Every figure is a test accuracy on scikit-learn's digits, with a plain Keras head (global average
pooling, dropout, dense) and AdamW, so that it says something about the backbone alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from finetune.keras_internals import flatten

BATCH_SIZE = 32
HEAD_LEARNING_RATE = 1e-2
HEAD_EPOCHS = 60
UNFROZEN_LEARNING_RATE = 5e-4
UNFROZEN_EPOCHS = 20
SCRATCH_LEARNING_RATE = 2e-3

Arrays = dict[str, np.ndarray]


def digit_splits() -> tuple[Arrays, Arrays]:
    """Splits scikit-learn's digits as the bundled dataset does.

    Returns:
        Images (n, 8, 8, 3) uint8 and labels (n,), each by split: `train` (1000), `few` (the first
        10 of each class in `train`) and `test` (797).
    """
    digits = load_digits()
    grey = np.round(digits.images * 255 / 16).astype(np.uint8)
    labels = digits.target
    train, test = train_test_split(
        np.arange(len(labels)), test_size=797, stratify=labels, random_state=0
    )
    few = np.concatenate([train[labels[train] == digit][:10] for digit in range(10)])
    rows = {"train": train, "few": few, "test": test}
    images = {name: np.repeat(grey[index][..., None], 3, axis=-1) for name, index in rows.items()}
    return images, {name: labels[index] for name, index in rows.items()}


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns every BatchNorm of a model, those inside nested layers too."""
    return [layer for layer in flatten(model) if isinstance(layer, keras.layers.BatchNormalization)]


def new_head() -> keras.Sequential:
    """Returns dropout and a dense layer for ten classes; it takes pooled features."""
    return keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(10)])


def with_head(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Puts global average pooling and a head on a backbone."""
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, head(pooled))


def fit(
    model: keras.Model, x: np.ndarray, y: np.ndarray, learning_rate: float, epochs: int
) -> None:
    """Compiles and fits with AdamW, a cosine learning rate and shuffled batches of 32."""
    steps = -(-len(x) // BATCH_SIZE) * epochs
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(learning_rate, steps), weight_decay=1e-2
    )
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH_SIZE)
    model.fit(data, epochs=epochs, verbose=0)


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Returns the share of images with the largest logit at the right class, in percent."""
    return float(np.mean(model.predict(x, batch_size=256, verbose=0).argmax(-1) == y)) * 100


class Transfer:
    """Measures one preset; results that do not depend on a seed are computed once.

    Args:
        directory: Directory of the preset.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        images, self.labels = digit_splits()
        converter = keras_hub.layers.ImageConverter.from_preset(self.directory)
        self.inputs = {name: np.asarray(converter(batch)) for name, batch in images.items()}
        self.features = self.pool(self.backbone())

    def backbone(self, load_weights: bool = True) -> keras.Model:
        """Returns the preset's backbone, or the same one with random weights."""
        return keras_hub.models.ResNetBackbone.from_preset(
            self.directory, load_weights=load_weights
        )

    def pool(self, backbone: keras.Model) -> Arrays:
        """Returns pooled features (n, channels) of each split."""
        return {
            name: backbone.predict(batch, batch_size=256, verbose=0).mean((1, 2))
            for name, batch in self.inputs.items()
        }

    def train_head(self, features: Arrays, split: str, seed: int) -> keras.Model:
        """Returns a head trained on the features of one split."""
        keras.utils.set_random_seed(seed)
        head = new_head()
        head.build((None, features[split].shape[1]))
        fit(head, features[split], self.labels[split], HEAD_LEARNING_RATE, HEAD_EPOCHS)
        return head

    def probe(self, split: str, seed: int) -> float:
        """Returns the test accuracy of a linear probe."""
        head = self.train_head(self.features, split, seed)
        return accuracy(head, self.features["test"], self.labels["test"])

    def random_probe(self, split: str, seed: int) -> float:
        """Returns the test accuracy of a linear probe on a random backbone."""
        keras.utils.set_random_seed(seed)
        features = self.pool(self.backbone(load_weights=False))
        head = self.train_head(features, split, seed)
        return accuracy(head, features["test"], self.labels["test"])

    def unfrozen(self, split: str, seed: int) -> float:
        """Returns the test accuracy of a linear probe that is then trained whole, with BatchNorm statistics."""
        head = self.train_head(self.features, split, seed)
        model = with_head(self.backbone(), head)
        fit(
            model,
            self.inputs[split],
            self.labels[split],
            UNFROZEN_LEARNING_RATE,
            UNFROZEN_EPOCHS,
        )
        return accuracy(model, self.inputs["test"], self.labels["test"])

    def scratch(self, split: str, epochs: int, seed: int) -> float:
        """Returns the test accuracy of the same network trained from random weights."""
        keras.utils.set_random_seed(seed)
        model = with_head(self.backbone(load_weights=False), new_head())
        fit(model, self.inputs[split], self.labels[split], SCRATCH_LEARNING_RATE, epochs)
        return accuracy(model, self.inputs["test"], self.labels["test"])


def evaluate(directory: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, float]:
    """Measures transfer to digits and prints each figure when it is ready.

    Args:
        directory: Directory of the preset.
        seeds: Seeds of heads, shuffling, dropout and random backbones.

    Returns:
        Mean test accuracy over seeds, in percent; `10` and `100` are labels a class.
    """
    transfer = Transfer(directory)
    test = transfer.features["test"]
    print(f"pooled features: mean {test.mean():.3f}, deviation {test.std():.3f}")
    runs: dict[str, Callable[[int], float]] = {
        "probe_10": partial(transfer.probe, "few"),
        "random_probe_10": partial(transfer.random_probe, "few"),
        "scratch_10": partial(transfer.scratch, "few", 80),
        "probe_100": partial(transfer.probe, "train"),
        "unfrozen_100": partial(transfer.unfrozen, "train"),
        "scratch_100": partial(transfer.scratch, "train", 40),
    }
    figures = {}
    for name, run in runs.items():
        started = time.perf_counter()
        values = [run(seed) for seed in seeds]
        figures[name] = round(float(np.mean(values)), 2)
        accuracies = ", ".join(f"{value:.2f}" for value in values)
        seconds = time.perf_counter() - started
        print(f"{name}: {figures[name]:.2f} % ({accuracies}; {seconds:.0f} s)", flush=True)
    return figures

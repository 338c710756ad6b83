"""Random augmentation that is a function of the seed, the epoch and the row.

The layers are Keras' own. Their seed generators count calls in a variable, so that the result for
an image would depend on all earlier draws. Here the draws of each image start from its own seed,
and an epoch looks the same in any run, order or process.
"""

from typing import Any

import keras
import tensorflow as tf

from finetune.keras_internals import flatten


class Augmentation:
    """Augments one image at a time.

    Args:
        strength: ``light`` (shift and zoom by up to 10 %, brightness by up to 20 %) or ``strong``
            (RandAugment with two operations, then an erased patch in half of the images).
        flip: Whether half of the images are mirrored left to right.
        seed: Seed of the draws, 0..2**32-1.
    """

    def __init__(self, strength: str, flip: bool, seed: int) -> None:
        self.description = f"{strength}, flip {flip}, seed {seed}"
        self._seed = seed
        self._seeds = _Seeds()
        self._layers = _light() if strength == "light" else _strong()
        if flip:
            self._layers.append(keras.layers.RandomFlip("horizontal"))
        for layer in self._layers:
            for inner in flatten(layer):
                if hasattr(inner, "generator"):
                    inner.generator = self._seeds

    def __call__(self, image: tf.Tensor, epoch: Any, row: Any) -> tf.Tensor:
        """Returns an augmented image.

        Args:
            image: (height, width, 3) in 0..255.
            epoch: Global number of the epoch, int64 scalar.
            row: Row of the split, int64 scalar.

        Returns:
            (height, width, 3) float32 in 0..255.
        """
        seed: Any = tf.stack([tf.constant(self._seed, tf.int64), epoch])
        self._seeds.start(tf.random.fold_in(seed, row))
        for layer in self._layers:
            image = layer(image, training=True)
        return tf.clip_by_value(tf.cast(image, tf.float32), 0.0, 255.0)


def _light() -> list[Any]:
    return [
        keras.layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
        keras.layers.RandomZoom((-0.1, 0.1), fill_mode="reflect"),
        keras.layers.RandomBrightness(0.2, value_range=(0, 255)),
    ]


def _strong() -> list[Any]:
    return [
        keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.5),
        keras.layers.RandomErasing(factor=0.5, scale=(0.02, 0.2), value_range=(0, 255)),
    ]


class Mix:
    """Mixes the images of a batch with each other, and their targets in the same proportion.

    Args:
        name: ``mixup`` (Zhang et al. 2017, alpha 0.2) or ``cutmix`` (Yun et al. 2019, alpha 1).
        seed: Seed of the draws, 0..2**32-1.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._seed = seed
        self._seeds = _Seeds()
        self._layer: Any = keras.layers.MixUp() if name == "mixup" else keras.layers.CutMix()
        self._layer.generator = self._seeds

    def __call__(
        self, images: tf.Tensor, targets: tf.Tensor, epoch: Any, rows: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mixed batch, a function of the seed, the epoch and the rows.

        Args:
            images: (batch, height, width, 3).
            targets: (batch, classes) float32.
            epoch: Global number of the epoch, int64 scalar.
            rows: Rows of the split, (batch,) int64.
        """
        seed: Any = tf.stack([tf.constant(self._seed, tf.int64), epoch])
        self._seeds.start(tf.random.fold_in(seed, rows[0]))
        mixed = self._layer({"images": images, "labels": targets}, training=True)
        return tf.ensure_shape(mixed["images"], images.shape), tf.ensure_shape(
            mixed["labels"], targets.shape
        )


class _Seeds(keras.random.SeedGenerator):
    """Yields seeds derived from a given one and the number of draws since it was set."""

    def __init__(self) -> None:  # no variable, so that no state outlives a call
        self._seed: Any = None
        self._drawn = 0

    def start(self, seed: Any) -> None:
        self._seed, self._drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self._drawn += 1
        return tf.cast(tf.random.fold_in(self._seed, self._drawn), tf.int32)

"""Trains the bundled backbone `resnet_mini` on letters and measures how it transfers to digits.

    python scripts/pretrain_letters.py              # draw letters, train, save the preset, evaluate
    python scripts/pretrain_letters.py --evaluate   # only evaluate the saved preset

Needs Pillow and the Debian font packages that `letters.py` names; a missing one is reported with the command that
installs it. No digit is among the classes: what the backbone knows about digits it learnt from letters.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # twice as fast where it is not the default

import letters
import numpy as np

PRESET = Path(__file__).resolve().parents[1] / "finetune" / "backbones" / "presets" / "resnet_mini"
SCALE = 1 / 255  # the backbone sees values in [0, 1]
SEED = 0


def split_fonts(
    fonts: list[letters.FontFile], held_out: float = 0.1, seed: int = SEED
) -> tuple[list[letters.FontFile], list[letters.FontFile]]:
    """Splits fonts by family, so that no held-out letter has a sibling style in training.

    Args:
        fonts: all usable fonts.
        held_out: share of families to hold out.
        seed: decides which.

    Returns:
        Training fonts and held-out fonts.
    """
    families = sorted({font.family for font in fonts})
    order = np.random.default_rng(seed).permutation(len(families))
    out = {families[index] for index in order[: max(1, round(held_out * len(families)))]}
    return [f for f in fonts if f.family not in out], [f for f in fonts if f.family in out]


def draw_letters(
    fonts: list[letters.FontFile], copies: int, stream: int, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draws all fonts with two processes; the result does not depend on how many there are.

    Args:
        fonts: fonts to draw.
        copies: views of each letter of a printed font.
        stream: number that keeps training and held-out randomness apart.
        seed: seeds all randomness.

    Returns:
        Images (n, 32, 32) uint8 and labels (n,) uint8.
    """
    jobs = [(f.path, copies * f.weight, (seed, stream, i)) for i, f in enumerate(fonts)]
    with get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(letters.draw_font, jobs, chunksize=8)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def to_input(images: np.ndarray) -> np.ndarray:
    """Grey uint8 images (n, 32, 32) as the backbone takes them: (n, 32, 32, 3) float32 in [0, 1]."""
    return np.repeat(images[..., None], 3, axis=-1).astype(np.float32) * np.float32(SCALE)


def build_backbone() -> Any:
    """Builds the untrained backbone: a stem and three stages of one basic block."""
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128, 256],
        stackwise_num_blocks=[1, 1, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
        image_shape=(letters.IMAGE_SIZE, letters.IMAGE_SIZE, 3),
        name="resnet_mini",
    )


def fast_twin(backbone: Any) -> Any:
    """Copies a backbone with its 3 x 3 convolutions of 128 filters or more written as matrix products.

    TensorFlow's gradient of a convolution with respect to its input is slow on CPU where the image
    is as small as here (4 x 4 and 2 x 2): this trains about three times faster, to the same result.

    Args:
        backbone: a `ResNetBackbone` of fixed image size.

    Returns:
        A functional model with the same weights in the same order; hand them back with `set_weights`.
    """
    import keras
    from keras import ops

    class PatchConv2D(keras.layers.Conv2D):
        def call(self, inputs: Any) -> Any:
            (size, _), (stride, _) = self.kernel_size, self.strides
            if self.padding == "same":
                inputs = ops.pad(inputs, [[0, 0], [size // 2] * 2, [size // 2] * 2, [0, 0]])
            span = (inputs.shape[1] - size) // stride * stride + 1
            taps = [
                inputs[:, top : top + span : stride, left : left + span : stride]
                for top in range(size)
                for left in range(size)
            ]
            kernel = ops.reshape(self.kernel, (-1, self.filters))
            return ops.matmul(ops.concatenate(taps, axis=-1), kernel)

    def copy(layer: Any) -> Any:
        wide = (
            type(layer) is keras.layers.Conv2D
            and layer.kernel_size == (3, 3)
            and layer.filters > 64
        )
        return (PatchConv2D if wide else type(layer)).from_config(layer.get_config())

    twin = keras.models.clone_model(backbone, clone_function=copy)
    twin.set_weights(backbone.get_weights())
    return twin


def train(backbone: Any, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace) -> Any:
    """Trains the backbone with a linear head over its pooled features.

    Args:
        backbone: trained in place.
        images: (n, 32, 32) uint8.
        labels: (n,) class numbers.
        args: `epochs`, `batch_size`, `learning_rate`, `weight_decay`, `label_smoothing`.

    Returns:
        The classifier, for held-out accuracy.
    """
    import keras
    import tensorflow as tf

    num_classes = len(letters.LETTERS)
    twin = fast_twin(backbone)
    x = keras.layers.GlobalAveragePooling2D()(twin.output)
    x = keras.layers.Dropout(0.2, seed=SEED)(x)
    model = keras.Model(twin.input, keras.layers.Dense(num_classes)(x))
    steps = len(images) // args.batch_size
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        (args.epochs - 1) * steps,
        warmup_target=args.learning_rate,
        warmup_steps=steps,
        alpha=0.0,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=args.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=args.label_smoothing
        ),
        metrics=["accuracy"],
    )

    def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.cast(image, tf.float32)[..., None] * SCALE
        return tf.repeat(image, 3, axis=-1), tf.one_hot(label, num_classes)

    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=SEED)
    data = data.batch(args.batch_size, drop_remainder=True).map(prepare).prefetch(4)
    model.fit(data, epochs=args.epochs, verbose=2)
    reestimate_batch_norm(model, images)
    backbone.set_weights(twin.get_weights())
    return model


def reestimate_batch_norm(
    model: Any, images: np.ndarray, num_batches: int = 40, batch_size: int = 512
) -> None:
    """Replaces the moving statistics of BatchNorm, noisy at momentum 0.9, by means over many batches.

    Args:
        model: changed in place.
        images: (n, 32, 32) uint8 training images.
        num_batches: random batches to average over.
        batch_size: images in each.
    """
    import keras

    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    rng = np.random.default_rng(SEED)
    for batch in range(num_batches):
        for layer in norms:
            layer.momentum = batch / (batch + 1)
        model(to_input(images[rng.choice(len(images), batch_size)]), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def save_preset(backbone: Any, directory: Path) -> None:
    """Writes backbone and preprocessor as a KerasHub preset.

    Args:
        backbone: the trained backbone.
        directory: created if absent; other files in it stay.
    """
    import keras_hub

    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(letters.IMAGE_SIZE, letters.IMAGE_SIZE), scale=SCALE, interpolation="bilinear"
    )
    directory.mkdir(parents=True, exist_ok=True)
    backbone.save_to_preset(str(directory))
    keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter).save_to_preset(
        str(directory)
    )


def digit_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Loads scikit-learn's digits as uint8 images (n, 8, 8, 3): `train` (1000), `few` (10 a class), `test` (797)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.repeat(np.round(digits.images * 255 / 16).astype(np.uint8)[..., None], 3, axis=-1)
    labels = digits.target
    train_rows, test_rows = train_test_split(
        np.arange(len(labels)), test_size=797, stratify=labels, random_state=0
    )
    few = np.concatenate([train_rows[labels[train_rows] == digit][:10] for digit in range(10)])
    rows = {"train": train_rows, "few": few, "test": test_rows}
    return {name: (images[index], labels[index]) for name, index in rows.items()}


def probe(
    features: dict[str, np.ndarray],
    data: dict[str, tuple[np.ndarray, np.ndarray]],
    split: str,
    seed: int,
    learning_rate: float = 1e-2,
    epochs: int = 60,
) -> tuple[float, Any]:
    """Trains dropout and a dense layer on pooled features; returns test accuracy and the head."""
    import keras

    keras.utils.set_random_seed(seed)
    head = keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(10)])
    fit(head, features[split], data[split][1], learning_rate, epochs)
    return accuracy(head, features["test"], data["test"][1]), head


def fit(model: Any, x: np.ndarray, y: np.ndarray, learning_rate: float, epochs: int) -> None:
    """Compiles and fits with AdamW, a cosine learning rate and batches of 32."""
    import keras
    import tensorflow as tf

    steps = -(-len(x) // 32) * epochs
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=SEED).batch(32)
    model.fit(data, epochs=epochs, verbose=0)


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Share of images whose largest logit is at the right class, in percent."""
    return float(np.mean(model.predict(x, batch_size=256, verbose=0).argmax(-1) == y)) * 100


def with_head(backbone: Any, head: Any | None) -> Any:
    """Puts global average pooling and a head on a backbone; `None` makes a new head."""
    import keras

    twin = fast_twin(backbone)
    x = keras.layers.GlobalAveragePooling2D()(twin.output)
    head = head or keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(10)])
    return keras.Model(twin.input, head(x))


def evaluate(directory: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, float]:
    """Measures transfer to digits; every figure is the mean test accuracy over seeds, in percent.

    Args:
        directory: the preset.
        seeds: of heads, dropout and (for scratch) the backbone.

    Returns:
        Figures by name; `10` and `100` are labels a class.
    """
    import keras
    import keras_hub

    data = digit_splits()
    converter = keras_hub.layers.ImageConverter.from_preset(str(directory))
    inputs = {name: np.asarray(converter(images)) for name, (images, _) in data.items()}

    def pooled(backbone: Any) -> dict[str, np.ndarray]:
        return {
            k: backbone.predict(x, batch_size=256, verbose=0).mean((1, 2))
            for k, x in inputs.items()
        }

    def unfrozen(seed: int) -> float:
        backbone = keras_hub.models.ResNetBackbone.from_preset(str(directory))
        _, head = probe(pretrained, data, "train", seed)
        model = with_head(backbone, head)
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        fit(model, inputs["train"], data["train"][1], learning_rate=3e-4, epochs=20)
        return accuracy(model, inputs["test"], data["test"][1])

    def scratch(split: str, epochs: int, seed: int) -> float:
        keras.utils.set_random_seed(seed)
        model = with_head(build_backbone(), None)
        fit(model, inputs[split], data[split][1], learning_rate=2e-3, epochs=epochs)
        return accuracy(model, inputs["test"], data["test"][1])

    def random_probe(seed: int) -> float:
        keras.utils.set_random_seed(seed)
        return probe(pooled(build_backbone()), data, "few", seed)[0]

    pretrained = pooled(keras_hub.models.ResNetBackbone.from_preset(str(directory)))
    runs: dict[str, Callable[[int], float]] = {
        "probe_10": lambda seed: probe(pretrained, data, "few", seed)[0],
        "random_probe_10": random_probe,
        "scratch_10": partial(scratch, "few", 100),
        "probe_100": lambda seed: probe(pretrained, data, "train", seed)[0],
        "unfrozen_100": unfrozen,
        "scratch_100": partial(scratch, "train", 40),
    }
    print(
        f"pooled features: mean {pretrained['test'].mean():.3f}, deviation {pretrained['test'].std():.3f}"
    )
    figures = {}
    for name, run in runs.items():
        started = time.perf_counter()
        values = [run(seed) for seed in seeds]
        figures[name] = round(float(np.mean(values)), 2)
        seconds = time.perf_counter() - started
        print(
            f"{name}: {figures[name]:.2f} %  ({', '.join(f'{v:.2f}' for v in values)}; {seconds:.0f} s)",
            flush=True,
        )
    return figures


def main(argv: list[str] | None = None) -> None:
    """Parses arguments, then trains and evaluates, or only evaluates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only evaluate the preset in --output"
    )
    parser.add_argument(
        "--output", type=Path, default=PRESET, help="preset directory to write or evaluate"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--copies", type=int, default=3, help="views of each letter of each font")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=2e-2)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    args = parser.parse_args(argv)
    if not args.evaluate:
        pretrain(args)
    print(json.dumps(evaluate(args.output)))


def pretrain(args: argparse.Namespace) -> None:
    """Draws the letters, trains, and saves the preset; prints sizes, seconds and held-out accuracy."""
    import keras

    keras.utils.set_random_seed(SEED)
    started = time.perf_counter()
    fonts, held_out = split_fonts(letters.find_fonts())
    images, labels = draw_letters(fonts, args.copies, stream=0)
    test_images, test_labels = draw_letters(held_out, 4, stream=1)
    print(
        f"{len(images)} letters from {len(fonts)} fonts, {len(test_images)} from {len(held_out)} held-out fonts"
    )
    print(f"drawn in {time.perf_counter() - started:.0f} s", flush=True)
    backbone = build_backbone()
    model = train(backbone, images, labels, args)
    save_preset(backbone, args.output)
    guesses = model.predict(to_input(test_images), batch_size=512, verbose=0).argmax(-1)
    either_case = np.mean(guesses % 26 == test_labels % 26)
    print(
        f"held-out letters: {np.mean(guesses == test_labels):.2%}, ignoring case {either_case:.2%}"
    )
    print(f"total {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Trains the bundled backbone `resnet_mini` on letters and measures how it transfers to digits.

    .venv/bin/python research/pretrain_letters.py              # draw, train, save the preset, evaluate
    .venv/bin/python research/pretrain_letters.py --evaluate   # only evaluate the saved preset

Needs Pillow and the Debian font packages that `letters.py` names; a missing one is reported with
the command that installs it. No digit is among the classes: what the backbone knows about digits it
learnt from letters.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

# TensorFlow and Keras are imported where they are used, because the processes that draw need neither.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # not the default on every CPU; much faster

import letters
import numpy as np

PRESET = Path(__file__).resolve().parents[1] / "finetune" / "backbones" / "presets" / "resnet_mini"
SCALE = 1 / 255  # the backbone sees values in [0, 1]
SEED = 0
CARD = """\
# resnet_mini

A small ResNet for 32×32 images, pretrained on rendered letters: a KerasHub preset (`ResNetBackbone`, a 3×3 stem
convolution of 64 filters, then three stages of one basic block with 64, 128 and 256 filters; 1,227,712 parameters).
Input: (32, 32, 3), scaled to [0, 1]. Weights: ours, made by `research/pretrain_letters.py`; licence Apache-2.0.
This card is written by the same run.

## Data

{letters:,} images of the letters A–Z and a–z, rendered from {fonts} font files; {held_out_letters:,} more from
{held_out_fonts} font files of other families, held out. No digit is among the classes. There are {num_classes}: the
lower-case letters {merged} are drawn to fill the image, look like their upper case, and share its class.
Augmentation: random affine maps, elastic distortion, stroke width, blur, contrast, and low resolution (down to 8×8).

The fonts are Debian packages. No font and no rendered letter is in this directory. By licence of the fonts:

| licence | packages |
| --- | --- |
{licences}

## Recipe

{args.epochs} epochs, AdamW with rate {args.learning_rate:g} (one epoch of warm-up, then cosine decay to 0), weight
decay {args.weight_decay:g}, batches of {args.batch_size}, label smoothing {args.label_smoothing:g}, dropout 0.2
before the output, gradients clipped to norm 1; BatchNorm statistics are estimated again at the end.
{minutes} minutes on 2 cores.

## Figures

Held-out letters: {held_out_accuracy:.1f} % of {num_classes} classes.

Handwritten digits (scikit-learn's; 797 test images), test accuracy in percent, mean of seeds 0, 1, 2
(`research/transfer.py`):

| training labels a class | 10 | 100 |
| --- | --- | --- |
| linear probe | {probe_10:.1f} | {probe_100:.1f} |
| linear probe, then unfrozen | – | {unfrozen_100:.1f} |
| the same network from scratch | {scratch_10:.1f} | {scratch_100:.1f} |
| linear probe on a random backbone | {random_probe_10:.1f} | – |

Limits: it has seen white strokes on black, nothing else. It is a demonstration and test backbone, not a feature
extractor for photographs.
"""


def to_input(images: np.ndarray) -> np.ndarray:
    """Turns images (n, 32, 32) uint8 into the backbone's input (n, 32, 32, 3), in [0, 1]."""
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


def train(backbone: Any, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace) -> Any:
    """Trains the backbone with a linear head over its pooled features.

    Args:
        backbone: The backbone, which is trained in place.
        images: (n, 32, 32) uint8.
        labels: (n,) class numbers.
        args: The settings `epochs`, `batch_size`, `learning_rate`, `weight_decay`, `label_smoothing`.

    Returns:
        The classifier, for held-out accuracy.
    """
    import keras
    import tensorflow as tf

    num_classes = len(letters.CLASSES)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dropout(0.2, seed=SEED)(x)
    model = keras.Model(backbone.input, keras.layers.Dense(num_classes)(x))
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
    return model


def reestimate_batch_norm(
    model: Any, images: np.ndarray, num_batches: int = 40, batch_size: int = 512
) -> None:
    """Replaces the moving statistics of BatchNorm, which are noisy at momentum 0.9, by plain means.

    Args:
        model: The model, which is changed in place.
        images: (n, 32, 32) uint8 training images.
        num_batches: Number of random batches to average over.
        batch_size: Images per batch.
    """
    from transfer import batch_norms

    norms = batch_norms(model)
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
        backbone: The trained backbone.
        directory: Created if it is missing; other files in it are kept.
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
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--copies", type=int, default=4, help="views of each letter of each font")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=2e-2)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    args = parser.parse_args(argv)
    made = None if args.evaluate else pretrain(args)
    from transfer import evaluate

    figures = evaluate(args.output)
    print(json.dumps(figures))
    if made is not None:
        card = model_card(args, {**made, **figures})
        (args.output / "README.md").write_text(card, encoding="utf-8")


def pretrain(args: argparse.Namespace) -> dict[str, float]:
    """Draws the letters, trains and saves the preset.

    Returns:
        What the model card says of it: counts, seconds, held-out accuracy in percent.
    """
    import keras

    keras.utils.set_random_seed(SEED)
    started = time.perf_counter()
    fonts, held_out = letters.split_fonts(letters.find_fonts())
    images, labels = letters.draw_letters(fonts, args.copies, stream=0)
    test_images, test_labels = letters.draw_letters(held_out, 4, stream=1)
    print(f"{len(images)} letters from {len(fonts)} fonts to train on")
    print(f"{len(test_images)} letters from {len(held_out)} fonts held out")
    print(f"drawn in {time.perf_counter() - started:.0f} s", flush=True)
    backbone = build_backbone()
    model = train(backbone, images, labels, args)
    save_preset(backbone, args.output)
    guesses = model.predict(to_input(test_images), batch_size=512, verbose=0).argmax(-1)
    made = {
        "letters": len(images),
        "fonts": len(fonts),
        "held_out_letters": len(test_images),
        "held_out_fonts": len(held_out),
        "held_out_accuracy": round(float(np.mean(guesses == test_labels)) * 100, 2),
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    print(json.dumps(made), flush=True)
    return made


def model_card(args: argparse.Namespace, figures: dict[str, float]) -> str:
    """Returns the preset's README: data, fonts, licences, recipe and measured figures."""
    licences = "\n".join(
        f"| {licence} | {names} |" for licence, names in letters.FONT_LICENCES.items()
    )
    return CARD.format(
        args=args,
        licences=licences,
        num_classes=len(letters.CLASSES),
        merged=" ".join(letters.SAME_AS_UPPER),
        **figures,
    )


if __name__ == "__main__":
    main()

"""Measures how fast data become batches (``scripts/benchmark input``).

Images: 2,000 JPEGs of about 500×375 in folders become batches of 32 at 224×224. *Ours* is the input pipeline of a
run (list, read, decode, crop to the aspect ratio, resize, scale, labels); *plain* is what people write,
``keras.utils.image_dataset_from_directory(…).prefetch(AUTOTUNE)``, which decodes and resizes. Both run in one
process, in turns; the figures are medians. After that, the waits of each step for data are measured, with a frozen
ResNet-18 below a head.

Text: a frozen MiniLM on the docstrings of Python's standard library, run twice with two learning rates.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

IMAGES, SIZE, BATCH, CLASSES = 2_000, 224, 32, 10
SHAPES = [(375, 500), (500, 375), (333, 500), (480, 640)]
TEXT = ["backbone=minilm_l6", "dataset=docstrings", "head.pooling=avg", "schedule=linear_probe"]


def write_images(root: Path) -> None:
    """Writes smooth noise as JPEGs of quality 90, in ten folders."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    for index in range(IMAGES):
        height, width = SHAPES[index % len(SHAPES)]
        small = random.integers(0, 256, (height // 16, width // 16, 3)).astype("float32")
        image = tf.cast(tf.clip_by_value(tf.image.resize(small, (height, width)), 0, 255), tf.uint8)
        folder = root / f"class{index % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        encoded: Any = tf.io.encode_jpeg(image, quality=90)
        (folder / f"{index:04}.jpg").write_bytes(encoded.numpy())


def our_epochs(root: Path) -> list[float]:
    """Returns images per second in the first epoch, with listing and reading, and in the second."""
    from finetune.datasets.pipeline import training_batches
    from finetune.datasets.sources.folder import load_folder

    began, speeds = time.perf_counter(), []
    examples = our_examples(load_folder(str(root), seed=0))
    batches = iter(
        training_batches(examples, batch_size=BATCH, seed=0, first_epoch=0, last_epoch=2)
    )
    for _ in range(2):
        epoch = itertools.islice(batches, examples.num_steps(BATCH))
        number = sum(len(labels) for _, labels in epoch)
        speeds.append(number / (time.perf_counter() - began))
        began = time.perf_counter()
    return speeds


def our_examples(dataset: Any) -> Any:
    """Returns the training split as a run reads it for a ResNet at 224×224."""
    import keras_hub

    from finetune.datasets.pipeline import Examples
    from finetune.datasets.readers import ImageReader

    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(SIZE, SIZE), scale=1 / 255, offset=-0.5
    )
    split = dataset.splits["train"]
    return Examples(split, ImageReader((SIZE, SIZE), converter), split.labels.astype("int32"))


def plain_epochs(root: Path) -> list[float]:
    """Returns the same batches from Keras' own function."""
    import keras
    import tensorflow as tf

    began, speeds = time.perf_counter(), []
    batches = keras.utils.image_dataset_from_directory(
        root, image_size=(SIZE, SIZE), batch_size=BATCH, seed=0, verbose=False
    ).prefetch(tf.data.AUTOTUNE)
    for _ in range(2):
        number = sum(len(labels) for _, labels in batches)
        speeds.append(number / (time.perf_counter() - began))
        began = time.perf_counter()
    return speeds


def step_waits(root: Path, steps: int = 30) -> dict[str, float]:
    """Returns how long steps of a head on frozen ResNet-18 wait for their batch, in seconds."""
    import keras
    import keras_hub

    from finetune.datasets.pipeline import training_batches
    from finetune.datasets.sources.folder import load_folder

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512], stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block", image_shape=(SIZE, SIZE, 3),
    )  # fmt: skip
    backbone.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(CLASSES)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    examples = our_examples(load_folder(str(root), seed=0))
    batches = iter(
        training_batches(examples, batch_size=BATCH, seed=0, first_epoch=0, last_epoch=1)
    )
    model.train_on_batch(*next(batches))  # traces; the pipeline fills meanwhile
    waits, works = [], []
    for _ in range(steps):
        began = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - began)
        model.train_on_batch(*batch)
        works.append(time.perf_counter() - began)
    return {
        "longest wait of a step": max(waits),
        "median wait of a step": statistics.median(waits),
        "median step": statistics.median(works),
    }


def images(rounds: int) -> dict[str, float]:
    """Measures the images, in this process."""
    with tempfile.TemporaryDirectory(prefix="finetune-benchmark-") as folder:
        root = Path(folder) / "images"
        write_images(root)
        measured: dict[str, list[list[float]]] = {"plain": [], "ours": []}
        for _ in range(rounds):
            measured["plain"].append(plain_epochs(root))
            measured["ours"].append(our_epochs(root))
        figures = {
            f"{who}, images/s, {which} epoch": statistics.median(rates[i] for rates in values)
            for who, values in measured.items()
            for i, which in enumerate(("first", "second"))
        }
        pairs = zip(measured["ours"], measured["plain"], strict=True)
        ratios = [(a[0] / b[0], a[1] / b[1]) for a, b in pairs]
        figures["ours / plain, first epoch"] = statistics.median(ratio[0] for ratio in ratios)
        figures["ours / plain, second epoch"] = statistics.median(ratio[1] for ratio in ratios)
        return {**figures, **step_waits(root)}


def text() -> dict[str, float]:
    """Runs a frozen MiniLM twice and returns the seconds until training started, without imports."""
    with tempfile.TemporaryDirectory(prefix="finetune-benchmark-") as folder:
        figures = {}
        for which, rate in (("first", "1e-3"), ("second", "2e-3")):
            directory = Path(folder) / which
            overrides = [
                *TEXT, f"schedule.phases.head.learning_rate={rate}", f"features.dir={folder}/f",
                "dataset.sequence_length=64", f"hydra.run.dir={directory}",
            ]  # fmt: skip
            command = [sys.executable, "-m", "finetune", *overrides]
            subprocess.run(command, check=True, capture_output=True)
            seconds = json.loads((directory / "run.json").read_text())["seconds"]
            name = f"MiniLM, {which} run, first step after imports, s"
            figures[name] = seconds["startup"] - seconds["imports"]
        return figures


def main() -> None:
    """Prints the figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of rounds of each pipeline (5)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = {**images(arguments.rounds), **text()}
    for name, value in figures.items():
        print(f"{name:48} {value:10.3f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

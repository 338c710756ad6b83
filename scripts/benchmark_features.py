"""Compares stored features with Keras code that people write by hand (``scripts/benchmark features``).

Every measurement runs in a process of its own, so that memory and traces do not mix: this file calls
itself. Imports are not measured on any side; building the model, reading the data and compiling are.
The images are noise, so the figures say nothing about accuracy.
"""

import argparse
import json
import os
import resource
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

SIZE, CLASSES, BATCH = 224, 10, 32
HEAD_EPOCHS, PHASE_EPOCHS = 20, 4
RATES = [round(1e-3 * 1.3**number, 6) for number in range(16)]

PLAIN_RATES = 2  # number of the 16 that are measured; the others take as long and are added
STAGES = ("stack3_", "stack2_")  # of ResNet-18, from the head


def make_inputs(folder: Path, num_train: int) -> None:
    """Writes a ResNet-18 preset with random weights and a TFDS dataset of noise."""
    import keras
    import keras_hub
    import numpy as np
    import tensorflow_datasets as tfds

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(SIZE, SIZE, 3),
    )
    backbone.save_to_preset(str(folder / "resnet18"))
    keras_hub.layers.ResNetImageConverter(image_size=(SIZE, SIZE), scale=1 / 255).save_to_preset(
        str(folder / "resnet18")
    )

    class BenchmarkNoise(tfds.core.GeneratorBasedBuilder):
        """Blurred noise with one brightness for each class."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=CLASSES),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            sizes = {"train": num_train, "validation": num_train // 4, "test": CLASSES}
            return {name: self._generate_examples(name, size) for name, size in sizes.items()}

        def _generate_examples(self, name: str, size: int) -> Any:
            generator = np.random.default_rng(len(name))
            for index in range(size):
                small = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)
                image = np.kron(small, np.ones((SIZE // 16, SIZE // 16, 1), np.uint8))
                yield index, {"image": image, "label": index % CLASSES}

    BenchmarkNoise(data_dir=str(folder / "data")).download_and_prepare()


def load_arrays(folder: Path) -> dict[str, Any]:
    """Reads the same dataset as a script would: arrays scaled to [0, 1]."""
    import numpy as np
    import tensorflow_datasets as tfds

    builder = tfds.builder("benchmark_noise", data_dir=str(folder / "data"))
    arrays = {}
    for split in ("train", "validation"):
        whole = builder.as_dataset(split=split, batch_size=-1, as_supervised=True)
        images, labels = (np.asarray(array) for array in whole)
        arrays[split] = (images.astype("float32") / 255, labels)
    return arrays


def plain_model(folder: Path) -> tuple[Any, Any]:
    """Returns (backbone, model) as the keras.io transfer-learning guide builds them."""
    import keras
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone.from_preset(str(folder / "resnet18"))
    backbone.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    return backbone, keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def fit(model: Any, arrays: dict[str, Any], rate: float, epochs: int) -> None:
    """Compiles and fits, validating after every epoch."""
    import keras

    model.compile(
        keras.optimizers.AdamW(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = arrays["train"]
    model.fit(
        images,
        labels,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=arrays["validation"],
        verbose=0,
    )


def plain(folder: Path, work: str) -> float:
    """Trains with plain Keras; returns the seconds to add to those measured."""
    arrays = load_arrays(folder)
    if work == "head":
        fit(plain_model(folder)[1], arrays, 1e-3, HEAD_EPOCHS)
    elif work == "progressive":
        import keras

        backbone, model = plain_model(folder)
        for depth in range(3):
            backbone.trainable = True
            for layer in backbone.layers:
                norm = isinstance(layer, keras.layers.BatchNormalization)
                layer.trainable = layer.name.startswith(STAGES[:depth]) and not norm
            fit(model, arrays, 1e-3 if depth == 0 else 1e-4, PHASE_EPOCHS)
    else:
        began = time.perf_counter()
        for rate in RATES[:PLAIN_RATES]:
            fit(plain_model(folder)[1], arrays, rate, HEAD_EPOCHS)
        return (time.perf_counter() - began) * (len(RATES) / PLAIN_RATES - 1)
    return 0.0


def predict(folder: Path, work: str) -> float:
    """Computes features with `predict` once, then fits a new head on them for each rate."""
    import keras

    arrays = load_arrays(folder)
    backbone, _ = plain_model(folder)
    inputs = keras.Input((SIZE, SIZE, 3))
    pooled = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(backbone(inputs)))
    features = {
        name: (pooled.predict(images, batch_size=BATCH, verbose=0), labels)
        for name, (images, labels) in arrays.items()
    }
    for rate in RATES if work == "sweep" else [1e-3]:
        head = keras.Sequential([keras.Input((512,)), keras.layers.Dense(CLASSES)])
        fit(head, features, rate, HEAD_EPOCHS)
    return 0.0


def ours(folder: Path, work: str) -> float:
    """Runs the command line of this project, from its arguments to the run directory."""
    from finetune.cli import main

    common = [
        "backbone=local", f"backbone.path={folder / 'resnet18'}", "dataset=tfds",
        "dataset.name=benchmark_noise", f"dataset.data_dir={folder / 'data'}",
        f"dataset.batch_size={BATCH}", f"features.dir={folder / 'features'}",
    ]  # fmt: skip
    head = ["schedule.phases.head.learning_rate=1e-3"]
    if work == "head":
        mine = ["schedule=linear_probe", *head, f"schedule.phases.head.epochs={HEAD_EPOCHS}"]
    elif work == "progressive":
        mine = ["schedule=progressive", *head, f"schedule.phases.head.epochs={PHASE_EPOCHS}",
                f"schedule.epochs_per_phase={PHASE_EPOCHS}", "schedule.to_depth=2"]  # fmt: skip
    else:
        rates = ",".join(str(rate) for rate in RATES)
        mine = ["-m", "schedule=linear_probe", f"schedule.phases.head.epochs={HEAD_EPOCHS}",
                f"schedule.phases.head.learning_rate={rates}"]  # fmt: skip
    where = "hydra.sweep.dir" if work == "sweep" else "hydra.run.dir"
    code = main([*mine, *common, f"{where}={folder / 'runs' / str(time.time_ns())}"])
    if code != 0:
        raise SystemExit(code)
    return 0.0


SIDES = {"plain": plain, "predict": predict, "ours": ours}


def child(side: str, work: str, folder: Path) -> None:
    """Measures one side of one row in this process; prints JSON on its last line."""
    import keras_hub  # noqa: F401 - imports are not measured
    import tensorflow_datasets  # noqa: F401

    if side == "ours":
        import finetune.runs.run  # noqa: F401
    began = time.perf_counter()
    added = SIDES[side](folder, work)
    seconds = time.perf_counter() - began + added
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("\n" + json.dumps({"seconds": seconds, "peak_bytes": peak}))


def shares(folder: Path) -> dict[str, float]:
    """Measures the forward pass: seconds per image, and the share below the top of each stage."""
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.ResNetBackbone.from_preset(str(folder / "resnet18"))
    images = np.random.default_rng(0).random((BATCH, SIZE, SIZE, 3)).astype("float32")

    import keras
    import tensorflow as tf

    seconds = {}
    for name, output in (*backbone.pyramid_outputs.items(),):
        part = keras.Model(backbone.input, output)
        forward = tf.function(lambda x, part=part: part(x, training=False))
        forward(images)
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            forward(images)
            rounds.append((time.perf_counter() - began) / BATCH)
        seconds[name] = statistics.median(rounds)
    return seconds


def ceiling(work: str, pyramid: dict[str, float], num_train: int) -> float:
    """Returns plain time over ideal time, if training costs three forward passes of the trained part."""
    *_, third, whole = (pyramid[name] for name in sorted(pyramid))
    second = pyramid[sorted(pyramid)[-3]]
    rows, held_out = num_train, num_train // 4
    below = {"head": [whole], "sweep": [whole], "progressive": [whole, third, second]}[work]
    epochs = PHASE_EPOCHS if work == "progressive" else HEAD_EPOCHS
    runs = len(RATES) if work == "sweep" else 1
    usual = sum(rows * (b + 3 * (whole - b)) + held_out * whole for b in below) * epochs * runs
    ideal = sum((3 * rows + held_out) * (whole - b) for b in below) * epochs * runs
    return usual / (ideal + (rows + held_out) * whole)


def call(side: str, work: str, folder: Path) -> dict[str, float]:
    """Runs one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", side, work, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(num_train: int, rows: list[str], repeat: int) -> dict[str, Any]:
    """Measures the rows of the table, all sides of a row in turn."""
    result: dict[str, Any] = {"images": num_train, "rows": {}}
    with tempfile.TemporaryDirectory(prefix="finetune-benchmark-") as name:
        folder = Path(name)
        make(folder, num_train)
        done = subprocess.run(
            [sys.executable, __file__, "--shares", name], check=True, capture_output=True, text=True
        )
        pyramid = json.loads(done.stdout.splitlines()[-1])
        result["forward_seconds_an_image"] = pyramid
        for work in rows:
            sides = ["ours", "plain"] if work == "progressive" else ["ours", "predict", "plain"]
            taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for number in range(repeat):
                for side in sides:
                    if side == "plain" and number > 0:
                        continue  # takes minutes and varies by seconds
                    subprocess.run(["rm", "-rf", str(folder / "features")], check=True)
                    taken[side].append(call(side, work, folder))
                    if side == "ours":
                        result.setdefault("store", {})[work] = stored(folder / "features")
            figures = {
                side: {k: statistics.median(sample[k] for sample in values) for k in values[0]}
                for side, values in taken.items()
            }
            result["rows"][work] = {**figures, "ceiling": ceiling(work, pyramid, num_train)}
            print(row(work, result["rows"][work]), flush=True)
    return result


def grow(num_train: int) -> dict[str, Any]:
    """Measures the first row without plain Keras on more images."""
    result: dict[str, Any] = {"images": num_train}
    with tempfile.TemporaryDirectory(prefix="finetune-benchmark-") as name:
        folder = Path(name)
        make(folder, num_train)
        for side in ("ours", "predict"):
            result[side] = call(side, "head", folder)
            print(
                f"head, {num_train} images: {side} {result[side]['seconds']:.1f} s, "
                f"{result[side]['peak_bytes'] / 1e9:.2f} GB",
                flush=True,
            )
        result["store"] = stored(folder / "features")
    return result


def make(folder: Path, num_train: int) -> None:
    """Writes the inputs in a process of its own."""
    command = [sys.executable, __file__, "--inputs", str(folder), str(num_train)]
    subprocess.run(command, check=True, capture_output=True)


def stored(directory: Path) -> dict[str, float]:
    """Returns the bytes on disk per image, by cut."""
    found: dict[str, list[int]] = {}
    for manifest in directory.glob("*/manifest.json"):
        entry = json.loads(manifest.read_text())
        size = sum(path.stat().st_size for path in manifest.parent.iterdir())
        total = found.setdefault(entry["ingredients"]["cut"], [0, 0])
        total[0] += size
        total[1] += entry["num_samples"]
    return {cut: round(size / number) for cut, (size, number) in found.items()}


def row(work: str, figures: dict[str, Any]) -> str:
    """Returns one line of the table."""
    mine = figures["ours"]
    cells = [f"{work:12} ours {mine['seconds']:7.1f} s {mine['peak_bytes'] / 1e9:5.2f} GB"]
    for side in ("plain", "predict"):
        if side in figures:
            other = figures[side]
            cells.append(
                f"{side} {other['seconds']:7.1f} s {other['peak_bytes'] / 1e9:5.2f} GB, "
                f"{other['seconds'] / mine['seconds']:6.1f} ×"
            )
    return "; ".join([*cells, f"ceiling {figures['ceiling']:.1f} ×"])


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3)
    parser.add_argument("--inputs", nargs=2)
    parser.add_argument("--shares")
    parser.add_argument("--images", type=int, default=256, help="training images (256)")
    parser.add_argument("--rows", nargs="*", default=["head", "progressive", "sweep"])
    parser.add_argument(
        "--repeat", type=int, default=3, help="number of runs; plain Keras always runs once"
    )
    parser.add_argument(
        "--grow",
        type=int,
        default=2048,
        help="number of images of the second measurement; 0: skip it",
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.child[1], Path(arguments.child[2]))
    elif arguments.inputs:
        make_inputs(Path(arguments.inputs[0]), int(arguments.inputs[1]))
    elif arguments.shares:
        print("\n" + json.dumps(shares(Path(arguments.shares))))
    else:
        result = measure(arguments.images, arguments.rows, arguments.repeat)
        for work, cuts in result["store"].items():
            for cut, size in cuts.items():
                print(f"{work:12} {cut}: {size:,} bytes per image on disk")
        if arguments.grow:
            result["grown"] = grow(arguments.grow)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Directories of completed runs, written without training where that is possible."""

import keras
import keras_hub
import numpy as np

from finetune.backbones import saving
from finetune.backbones.coverage import Coverage
from finetune.backbones.families import family_of
from finetune.backbones.loading import LoadedBackbone
from finetune.record.files import to_json
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.runs.finetuner import FineTuner
from finetune.storage.sealed import file_digest
from finetune.tasks import heads
from tests.helpers.backbones import make_backbone

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "cafe", "."]
CLASSES = ["a", "b", "c"]


def seal(directory, head=None, source="directory", kind="image", precision="float32", **changes):
    """Writes the record of a completed run around the files in `directory`/model.

    Args:
        directory: The run directory.
        head: Its `head` config; None: the default.
        source: Where its backbone came from, as in `BackboneRecord`.
        kind: "image" or "text".
        precision: Its `runtime.precision`.
        changes: Other fields of the record.
    """
    files = [path for path in (directory / "model").rglob("*") if path.is_file()]
    model = {str(path.relative_to(directory / "model")): file_digest(path) for path in files}
    record = RunRecord(
        config={"head": head or {"pooling": "auto", "dropout": 0.0}},
        overrides=[],
        seed=0,
        versions={},
        device={"kind": "cpu", "names": ["cpu"], "precision": precision, "deterministic": True},
        backbone=BackboneRecord(
            "small", source, "0", [], {"tokenizer": "BertTokenizer"} if kind == "text" else {}
        ),
        dataset=DatasetRecord("toy", "0", 3, CLASSES, {}),
        **{"status": "completed", "model_sha256": model, **changes},
    )
    (directory / "run.json").write_text(to_json(record))


def shaken(task):
    """Draws all weights of a model at random, also those that start as zeros or ones.

    Kernels get both signs. With positive weights alone, the inputs of a normalization hardly vary,
    and it would enlarge the rounding errors that depend on the order of summation.
    """
    random = np.random.default_rng(1)
    for weight in task.weights:
        if "position" in weight.path:  # DINOv2 computes one of its two from the other
            continue
        low = 0.1 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(random.uniform(low, 1.0 if low > 0 else 0.5, weight.shape).astype("float32"))
    return task


def write_run(directory, backbone, preprocessor, kind, pooling="auto", dropout=0.1):
    """Writes a run whose task model has random weights and returns the task model."""
    loaded = LoadedBackbone(
        "small", "directory", backbone, kind, preprocessor, "", Coverage(len(backbone.weights)), {}
    )
    task = shaken(heads.build_task(loaded, 3, pooling=pooling, dropout=dropout, seed=0))
    labels = {"classes": CLASSES, "multi_label": False}
    saving.save_task(task, directory / "model", labels, preprocessor, backbone)
    seal(directory, {"pooling": pooling, "dropout": dropout}, kind=kind)
    return task


def image_run(directory, name="resnet", pooling="auto"):
    """Writes the run of an image family; returns (task model, image converter)."""
    # EfficientNet's config does not keep this argument, so it must be the default.
    backbone = make_backbone(name, **({"num_features": 1280} if name == "efficientnet" else {}))
    family, size = family_of(backbone), backbone.input_shape
    size = size["images"] if isinstance(size, dict) else size
    converter = family.image_converter(
        image_size=size[1:3], scale=[0.1, 0.2, 0.3], offset=[0.1, 0.0, -0.1],
        interpolation="bicubic", antialias=True,
    )  # fmt: skip
    preprocessor = family.preprocessor(image_converter=converter)
    dropout = 0.0 if name == "mobilenet" else 0.1
    return write_run(directory, backbone, preprocessor, "image", pooling, dropout), converter


def text_run(directory, pooling="auto"):
    """Writes the run of a BERT classifier; returns (task model, preprocessor)."""
    tokenizer = keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=4)
    return write_run(directory, make_backbone("bert"), preprocessor, "text", pooling), preprocessor


def own_run(directory, layer=None, last="softmax"):
    """Trains a user's own functional model for one epoch.

    Args:
        directory: The run directory.
        layer: A layer to put after the first one; None: none.
        last: Activation of the last layer.

    Returns:
        (model, record, inputs).
    """
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 6)).astype("float32"), np.arange(24) % 3
    inputs = keras.Input((6,))
    h = keras.layers.Dense(4, activation="relu", kernel_regularizer="l2", name="low")(inputs)
    h = h if layer is None else layer(h)
    h = keras.ops.concatenate([h, keras.ops.relu(h[:, :2]) + 1.0], axis=1)
    model = keras.Model(inputs, keras.layers.Dense(3, last, name="out")(h), name="mine")
    tuner = FineTuner(
        model, classes=CLASSES, directory=directory, stages={"low": ["low"]}, verbose=False,
        overrides=["schedule.phases.head.epochs=1", "features.cache=never"],
    )  # fmt: skip
    return model, tuner.fit((x, y), (x, y)), x


def softmax(logits):
    """Returns the probabilities of logits, computed in float64."""
    return keras.ops.convert_to_numpy(keras.ops.softmax(np.asarray(logits, np.float64)))

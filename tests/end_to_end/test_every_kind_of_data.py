"""Each source and kind of data through a whole run: what is learned, recorded and refused."""

import csv
import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.datasets.load import load_dataset
from finetune.errors import ConfigError
from tests.helpers.training_runs import train_run

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "sky", "sea", "sun"]
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def run(directory, *overrides):
    return train_run(directory, [*overrides, f"features.dir={directory}/features"])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A directory of a tiny BERT with random weights and a tokenizer."""
    directory = tmp_path_factory.mktemp("bert") / "tiny"
    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.BertBackbone(11, 2, 2, 16, 32, max_sequence_length=16)
    for weight in backbone.weights:  # tokens differ more than their positions do
        if "embedding" in weight.path and "norm" not in weight.path:
            spread = 1.0 if "token_embedding" in weight.path else 0.01
            weight.assign(keras.random.normal(weight.shape, stddev=spread, seed=3))
    backbone.save_to_preset(str(directory))
    keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True).save_to_preset(str(directory))
    return directory


def sentences(number, seed):
    random = np.random.default_rng(seed)
    rows = []
    for index in range(number):
        label = ["red", "green", "blue"][index % 3]
        others = random.choice(["sky", "sea", "sun"], random.integers(1, 4))
        rows.append({"text": " ".join(random.permutation([label, *others])), "label": label})
    return rows


def write_table(directory, separator=None):
    directory.mkdir()
    for name, number, seed in (("train", 60, 0), ("val", 12, 1), ("test", 30, 2)):
        rows = sentences(number, seed)
        if separator is not None:  # every word that occurs is a label
            for row in rows:
                row["label"] = separator.join(sorted(set(row["text"].split())))
        with (directory / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)


def test_texts_of_a_table_through_phases(tmp_path, bert):
    write_table(tmp_path / "data")
    record = run(
        tmp_path / "run", "backbone=local", f"backbone.path={bert}", "dataset=table",
        f"dataset.path={tmp_path}/data", "head.pooling=avg", "schedule=progressive",
        "schedule.to_depth=1", "schedule.epochs_per_phase=3", "schedule.phases.head.epochs=40",
        "dataset.batch_size=8", "schedule.learning_rate=3e-3",
        "features.cache=always", "dataset.class_weights=balanced",
    )  # fmt: skip
    # The pooler of BERT is not in the model: the mean over tokens does not use it.
    assert [s["name"] for s in record.backbone.stages] == ["embeddings", "block1", "block2"]
    assert [phase.name for phase in record.phases] == ["head", "block2"]
    assert all(phase.features["cached"] for phase in record.phases)
    assert record.backbone.preprocessing["tokenizer"] == "BertTokenizer"
    assert record.test["accuracy"] > 0.9  # chance is a third
    assert {row["name"] for row in record.test_per_class} == {"red", "green", "blue"}
    lines = (tmp_path / "run/splits.csv").read_text().splitlines()
    assert lines[0] == "split,source,digest" and lines[1].startswith("train,train.csv:2,")
    assert len(lines) == 1 + 60 + 12 + 30
    model = keras.saving.load_model(tmp_path / "run/model/model.keras")
    preprocess = keras_hub.models.TextClassifierPreprocessor.from_preset(
        str(tmp_path / "run/model")
    )
    rows = sentences(30, 2)
    logits = model.predict(preprocess([row["text"] for row in rows]), verbose=0)
    names = json.loads((tmp_path / "run/model/labels.json").read_text())["classes"]
    right = [names[i] == row["label"] for i, row in zip(logits.argmax(1), rows, strict=True)]
    assert np.mean(right) == pytest.approx(record.test["accuracy"])


def test_several_labels_a_text(tmp_path, bert):
    write_table(tmp_path / "data", separator="|")
    record = run(
        tmp_path / "run", "backbone=local", f"backbone.path={bert}", "dataset=table",
        f"dataset.path={tmp_path}/data", "dataset.label_separator=|", "schedule.phases.head.epochs=60",
        "schedule.phases.head.learning_rate=3e-2", "head.pooling=avg", "dataset.batch_size=8",
    )  # fmt: skip
    assert record.dataset.classes == ["blue", "green", "red", "sea", "sky", "sun"]
    assert record.test["macro_f1"] > 0.8 and record.test["mean_average_precision"] > 0.8
    labels = json.loads((tmp_path / "run/model/labels.json").read_text())
    assert labels["multi_label"] is True


def test_class_weights_help_the_rare_class(tmp_path, bert):
    (tmp_path / "data").mkdir()
    for name, number, seed in (("train", 90, 0), ("val", 30, 1), ("test", 60, 2)):
        rows = [
            row
            for index, row in enumerate(sentences(number, seed))
            if row["label"] != "red" or name != "train" or index % 15 == 0
        ]
        for row in rows[::2]:  # nothing but how frequent a class is speaks for it
            row["text"] = "sky"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"data/{name}.jsonl").write_text(text)
    recalls = {}
    for weights in ("none", "balanced"):
        record = run(
            tmp_path / weights, "backbone=local", f"backbone.path={bert}", "dataset=table",
            f"dataset.path={tmp_path}/data", "head.pooling=cls", "features.cache=always",
            f"dataset.class_weights={weights}", "schedule.phases.head.epochs=5",
        )  # fmt: skip
        recalls[weights] = record.test_per_class[2]["recall"]
        assert record.test_per_class[2]["name"] == "red"
    assert recalls["balanced"] > recalls["none"]


def stripes(number, seed):
    """Grey images with a bright left or right half, or both."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (number, 12, 12), dtype="uint8")
    labels = random.integers(0, 2, (number, 2))
    images[:, :, :6] += (labels[:, :1, None] * 180).astype("uint8")
    images[:, :, 6:] += (labels[:, 1:, None] * 180).astype("uint8")
    return images, labels


def test_arrays_of_images_with_several_labels_mixed(tmp_path):
    x, y = stripes(80, 0)
    x_test, y_test = stripes(40, 1)
    np.savez(
        tmp_path / "stripes.npz", x_train=x, y_train=y, x_val=x_test, y_val=y_test,
        x_test=x_test, y_test=y_test, classes=np.array(["left", "right"]),
    )  # fmt: skip
    record = run(
        tmp_path / "run", "dataset=arrays", f"dataset.path={tmp_path}/stripes.npz",
        "dataset.mix=mixup", "schedule.phases.head.epochs=12",
        "schedule.phases.head.learning_rate=3e-2",
    )  # fmt: skip
    assert record.dataset.classes == ["left", "right"]
    assert record.test["micro_f1"] > 0.9
    assert not record.phases[0].features["cached"]
    assert "mixed" in record.features[0].reason


def test_cutmix_trains_on_digits(tmp_path):
    record = run(
        tmp_path / "run", "experiment=resnet_probe", "dataset.train_per_class=20",
        "dataset.mix=cutmix", "dataset.augment=light", "schedule.phases.head.epochs=6",
    )  # fmt: skip
    assert record.test["accuracy"] > 0.8
    row = record.phases[0].metrics
    assert row["train"]["loss"] > row["validation"]["loss"]  # mixed images are harder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=table", "dataset.path={data}"], "dataset must hold images: backbone resnet_mini"),
        (["backbone=local", "backbone.path={bert}"], "dataset must hold texts: backbone tiny"),
        (["backbone=local", "backbone.path={bert}", "dataset=table", "dataset.path={data}",
          "dataset.augment=light", "dataset.mix=mixup"], "dataset.augment must be none: texts"),
        (["backbone=local", "backbone.path={bert}", "dataset=table", "dataset.path={data}",
          "dataset.image_size=32"], "dataset.image_size must be null for the text backbone"),
        (["backbone=local", "backbone.path={bert}", "dataset=table", "dataset.path={data}",
          "dataset.label_separator=|", "dataset.class_weights=balanced"],
         "dataset.class_weights must be none where an example may have several"),
        (["backbone=local", "backbone.path={bert}", "dataset=table", "dataset.path={data}",
          "head.pooling=avg", "dataset.label_separator=|", "schedule.phases.head.solver=lbfgs"],
         "solver must be gradient where an example may have several labels"),
        (["dataset=table", "dataset.path={one}"], "at least 2 classes.*1 class"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_training(tmp_path, bert, overrides, message):
    write_table(tmp_path / "data")
    (tmp_path / "one.csv").write_text("text,label\n" + "a,b\n" * 30)
    given = [
        override.format(bert=bert, data=tmp_path / "data", one=tmp_path / "one.csv")
        for override in overrides
    ]
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", *given)
    assert not (tmp_path / "run" / "run.json").exists()


def test_settings_that_no_run_could_have_are_named_together():
    with pytest.raises(ConfigError) as caught:
        compose_config(
            ["dataset=arrays", "dataset.path=x", "+dataset.label_separator=|", "dataset.mix=both",
             "+dataset.sequence_length=0", "dataset.class_weights=some", "features.cache=always",
             "dataset.on_bad_sample=guess"]
        )  # fmt: skip
    text = str(caught.value)
    for key in ("label_separator", "mix", "sequence_length", "class_weights", "on_bad_sample"):
        assert f"dataset.{key} must be" in text, key


def test_a_grey_png_folder_decodes_as_three_channels(tmp_path):
    for part in ("train", "val", "test"):
        for name in ("dark", "light"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for row in range(4):
                value = np.full((9, 9, 1), 20 + row + 200 * (name == "light"), "uint8")
                (folder / f"{row}.png").write_bytes(tf.io.encode_png(value).numpy())
    record = run(
        tmp_path / "run", "dataset=image_folder", f"dataset.path={tmp_path}/data",
        "schedule.phases.head.epochs=4",
    )  # fmt: skip
    assert record.test["accuracy"] == 1.0
    assert "train,train/dark/0.png," in (tmp_path / "run/splits.csv").read_text()


def make_dino(cls, directory, **more):
    keras.utils.set_random_seed(0)
    cls(
        patch_size=8, num_layers=2, hidden_dim=8, num_heads=2, intermediate_dim=16,
        image_shape=(16, 16, 3), **more,
    ).save_to_preset(str(directory))  # fmt: skip


@pytest.mark.parametrize("version", ["V2", "V3"])
def test_dino_trains_whole_and_is_saved_as_it_was_trained(tmp_path, version):
    more = {"position_embedding_shape": (32, 32)} if version == "V2" else {}
    make_dino(getattr(keras_hub.models, f"DINO{version}Backbone"), tmp_path / "dino", **more)
    record = run(
        tmp_path / "run", "backbone=local", f"backbone.path={tmp_path}/dino", "schedule=full",
        "schedule.phases.full.epochs=1", "dataset.max_samples=60",
        "schedule.phases.full.learning_rate=1e-2",
    )  # fmt: skip
    assert [s["name"] for s in record.backbone.stages] == ["embeddings", "block1", "block2"]
    counts = record.phases[0].weight_counts
    # The mask token; of DINOv2 its positions as well, as stored and as resized.
    assert counts["untrainable"]["weights"] == (3 if version == "V2" else 1)
    assert counts["frozen"]["weights"] == 0
    model = keras.saving.load_model(tmp_path / "run/model/model.keras")
    config = read(compose_config(["dataset.max_samples=60"]))
    test = load_dataset(config.dataset, config.seed).splits["test"]
    images = np.stack([tf.io.decode_image(image, channels=3).numpy() for image in test.examples])
    converter = keras_hub.layers.ImageConverter.from_preset(str(tmp_path / "run/model"))
    right = np.mean(model.predict(converter(images), verbose=0).argmax(1) == test.labels)
    assert right == pytest.approx(record.test["accuracy"])


def write_damaged(root):
    """Three images of each class and split; one of train has lost its end."""
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name in ("a", "b"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for row in range(3):
                image = random.integers(0, 256, (9, 9, 3), dtype="uint8")
                (folder / f"{row}.png").write_bytes(tf.io.encode_png(image).numpy())
    path = root / "train/b/1.png"
    path.write_bytes(path.read_bytes()[:150])


@pytest.mark.parametrize("features", ["auto", "never"])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, features):
    write_damaged(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"1 unusable ones: 1 cut short .* \(train/b/1.png\)"):
        run(
            tmp_path / "run", "dataset=image_folder", f"dataset.path={tmp_path}/data",
            f"features.cache={features}",
        )  # fmt: skip


def test_a_bad_sample_is_left_out_and_written_down(tmp_path):
    write_damaged(tmp_path / "data")
    (tmp_path / "data/val/a/2.png").write_bytes(b"")
    record = run(
        tmp_path / "run", "dataset=image_folder", f"dataset.path={tmp_path}/data",
        "dataset.on_bad_sample=skip",
    )  # fmt: skip
    assert record.dataset.splits == {"train": 5, "validation": 5, "test": 6}
    written = json.loads((tmp_path / "run/run.json").read_text())["dataset"]
    assert written["skipped"] == {
        "counts": {"train": 1, "validation": 1},
        "samples": [
            {"split": "train", "source": "train/b/1.png", "reason": "cut short or damaged"},
            {"split": "validation", "source": "val/a/2.png", "reason": "empty"},
        ],
    }
    lines = (tmp_path / "run/splits.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 + 5 + 6
    assert not any(line.startswith("train,train/b/1.png,") for line in lines)


def test_class_weights_and_mixed_classes_do_not_go_together():
    with pytest.raises(ConfigError, match="class_weights must be none where images of several"):
        compose_config(["dataset.class_weights=balanced", "dataset.mix=mixup"])

"""TFDS datasets prepared on disk, of an unknown name: texts, several labels, chosen features."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from finetune.datasets import pipeline
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader
from finetune.datasets.sources import tfds as loading
from finetune.errors import ConfigError

SPLITS = {"train": "train[:80%]", "validation": "train[80%:]", "test": "test"}
NAMES = ["no", "yes"]
LABEL = tfds.features.ClassLabel(names=NAMES)
TEXT = tfds.features.Text()
IMAGE = tfds.features.Image(shape=(2, 2, 1), dtype=np.uint8, encoding_format="png")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("prepared"))


def store(data_dir, name, features, row, config=None):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.2.0",
        config=config,
        data_dir=data_dir,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": [(n, row(n)) for n in range(10)],
            "test": [(n, row(n)) for n in (0, 1)],
        },
        disable_shuffling=True,
    )


def load(data_dir, name, **more):
    return loading.load(name, **{"data_dir": data_dir, "splits": SPLITS, "seed": 0, **more})


def test_texts_of_a_prepared_set_load_without_its_builder(data_dir):
    def row(n):
        return {"text": f"täxt {n}", "label": n % 2}

    store(data_dir, "words", {"text": TEXT, "label": LABEL}, row)
    dataset = load(data_dir, "words", version="1.2.0")
    assert dataset.kind == "text" and dataset.classes == tuple(NAMES)
    assert dataset.splits["train"].examples.tolist() == [f"täxt {n}" for n in range(8)]
    assert dataset.splits["validation"].examples.tolist() == ["täxt 8", "täxt 9"]
    assert dataset.splits["test"].labels.tolist() == [0, 1]
    few = load(data_dir, "words", train_per_class=2, max_samples=3)
    assert [split.num_examples for split in few.splits.values()] == [3, 2, 2]
    with pytest.raises(ConfigError, match="dataset.version, dataset.config.*Received: 9.9.9"):
        load(data_dir, "words", version="9.9.9")


def test_features_are_chosen_where_there_are_several(data_dir):
    features = {"title": TEXT, "body": TEXT, "label": LABEL, "spam": LABEL}

    def row(n):
        return {"title": f"t{n}", "body": f"b{n}", "label": n % 2, "spam": 1 - n % 2}

    store(data_dir, "several", features, row)
    chosen = {"input_feature": "body", "label_feature": "spam"}
    dataset = load(data_dir, "several", **chosen)
    assert dataset.splits["train"].examples[1] == "b1"
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4
    other = load(data_dir, "several", input_feature="body", label_feature="label")
    assert other.fingerprint != dataset.fingerprint
    with pytest.raises(ConfigError, match=r"columns.input must name a feature.*Valid: .*body"):
        load(data_dir, "several")
    with pytest.raises(ConfigError, match=r"columns.label must name a feature.*Valid: .*spam"):
        load(data_dir, "several", input_feature="body")
    with pytest.raises(ConfigError, match="columns.input must be an image or text.*Did you mean b"):
        load(data_dir, "several", input_feature="bodi")


def test_a_list_of_labels_is_several_labels(data_dir):
    features = {"image": IMAGE, "name": TEXT, "tags": tfds.features.Sequence(LABEL)}

    def row(n):
        tags = [[], ["yes"], ["no", "yes"]][n % 3]
        return {"image": np.full((2, 2, 1), n, np.uint8), "name": str(n), "tags": tags}

    store(data_dir, "tagged", features, row)
    dataset = load(data_dir, "tagged")  # the only image, though there is a text
    assert dataset.kind == "image" and dataset.multi_label
    assert dataset.splits["train"].labels.tolist()[:3] == [[0, 0], [0, 1], [1, 1]]
    assert dataset.splits["train"].labels.dtype == np.uint8
    assert dataset.splits["train"].examples[0].startswith(b"\x89PNG")
    assert load(data_dir, "tagged", max_samples=3).splits["train"].num_examples == 3
    with pytest.raises(ConfigError, match="train_per_class must be null"):
        load(data_dir, "tagged", train_per_class=1)


def test_texts_with_a_list_of_labels(data_dir):
    features = {"text": TEXT, "tags": tfds.features.Sequence(LABEL)}
    store(data_dir, "noted", features, lambda n: {"text": str(n), "tags": ["yes"] * (n % 2)})
    dataset = load(data_dir, "noted")
    assert dataset.kind == "text" and dataset.multi_label
    assert dataset.splits["test"].labels.tolist() == [[0, 0], [0, 1]]


def test_examples_without_a_label_are_refused(data_dir):
    store(
        data_dir, "unlabelled", {"text": TEXT, "label": LABEL},
        lambda n: {"text": "a", "label": -1 if n == 3 else 0},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"1 without a label \(train row 4\)"):
        load(data_dir, "unlabelled")
    dataset = load(data_dir, "unlabelled", skip=True)
    assert [split.num_examples for split in dataset.splits.values()] == [7, 2, 2]
    assert dataset.splits["train"].labels.tolist() == [0] * 7


def test_a_config_is_chosen(data_dir):
    features = {"text": TEXT, "label": LABEL}
    for name in ("en", "de"):
        config = tfds.core.BuilderConfig(name=name)
        store(
            data_dir, "tongues", features,
            lambda n, name=name: {"text": f"{name} {n}", "label": n % 2}, config,
        )  # fmt: skip
    assert load(data_dir, "tongues", config="de").splits["train"].examples[0] == "de 0"
    assert load(data_dir, "tongues", config="en").splits["train"].examples[0] == "en 0"


def test_transparent_images_are_seen_over_white(data_dir):
    rgba = tfds.features.Image(shape=(2, 2, 4), dtype=np.uint8, encoding_format="png")

    def row(n):
        return {
            "image": np.tile(np.uint8([10, 200, 0, 0 if n else 102]), (2, 2, 1)),
            "label": n % 2,
        }

    store(data_dir, "clear", {"image": rgba, "label": LABEL}, row)
    split = load(data_dir, "clear").splits["test"]
    examples = Examples(split, ImageReader((2, 2)), split.labels)
    (images,) = pipeline.single_pass(examples, batch_size=2, view=None)
    # 10 * 0.4 + 255 * 0.6 = 157; 200 * 0.4 + 153 = 233; 0 + 153.
    assert images[:, 0, 0].numpy().tolist() == [[157, 233, 153], [255, 255, 255]]


def test_a_label_that_is_no_class_is_refused(data_dir):
    label = tfds.features.ClassLabel(names=["no", "yes", "maybe"])
    for name, feature in (("wide", label), ("wider", tfds.features.Sequence(label))):

        def row(n, name=name):
            return {"text": str(n), "label": n % 3 if name == "wide" else [n % 3]}

        store(data_dir, name, {"text": TEXT, "label": feature}, row)
        for file in Path(data_dir, name, "1.2.0").glob("*labels.txt"):
            file.write_text("no\nyes\n")  # of another version than the records
    with pytest.raises(ConfigError, match=r"splits.train must have labels in 0..1.*label 2"):
        load(data_dir, "wide")
    with pytest.raises(ConfigError, match=r"that is not a class \(train row 3, train row 6"):
        load(data_dir, "wider")

"""Datasets that a function of a plug-in returns."""

import io

import numpy as np
import pytest
from PIL import Image

import finetune
from finetune.config import entry_points, plugins
from finetune.config.schema import DatasetConfig
from finetune.datasets.load import load_dataset
from finetune.errors import ConfigError
from tests.helpers.plugins import installer


def png(value):
    text = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(text, "png")
    return text.getvalue()


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def load(splits, **keys):
    plugins.register("datasets", "mine", lambda settings, seed: splits)
    return load_dataset(DatasetConfig(name="mine", **keys), 0)


def test_texts_with_names_of_classes():
    texts = [f"text {i}" for i in range(40)]
    labels = ["b", "a"] * 20
    found = load(finetune.Splits((texts, labels), test=(["one", "two"], ["a", "b"])))
    assert (found.name, found.kind, found.classes) == ("mine", "text", ("a", "b"))
    sizes = {name: split.num_examples for name, split in found.splits.items()}
    assert sizes == {"train": 36, "validation": 4, "test": 2}
    assert found.splits["test"].labels.tolist() == [0, 1]
    assert found.splits["test"].source(1) == "test:2"


def test_pixels_are_given_the_path_and_the_seed(tmp_path):
    asked = []

    @finetune.dataset("pixels")
    def pixels(settings, seed):
        asked.append((settings.path, seed))
        return finetune.Splits((np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2), classes="ab")

    found = load_dataset(DatasetConfig(name="pixels", path="somewhere", max_samples=10), 5)
    assert asked == [("somewhere", 5)]
    assert found.splits["train"].examples.shape == (10, 8, 8, 1)
    assert found.classes == ("a", "b")


def test_image_files_and_encoded_images(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(30)]
    for i, path in enumerate(paths):
        path.write_bytes(png(i))
    labels = np.arange(30) % 3
    files = load(finetune.Splits((paths, labels)))
    encoded = load(finetune.Splits(([path.read_bytes() for path in paths], labels)))
    assert files.fingerprint == encoded.fingerprint
    assert files.splits["train"].source(0).endswith(".png")
    paths[3].write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"3\.png"):
        load(finetune.Splits((paths, labels)), on_bad_sample="error")


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": 1}, "must be a finetune.Splits whose splits are pairs of inputs and labels. Received: dict"),
        (finetune.Splits(["a", "b", "c"]), "Received: train of list"),
        (finetune.Splits((["a", "b"], [0])), "train must have a label for each example. Received: 2 examples and 1"),
        (finetune.Splits((np.zeros((4, 2)), [0, 1, 0, 1])), "train inputs must be images"),
        (finetune.Splits((np.zeros((4, 2, 2), np.uint8), [0.5, 1, 0, 1])), "train labels must be class indices"),
        (finetune.Splits((["a"] * 40, [0, 1] * 20), (np.zeros((2, 2, 2), np.uint8), [0, 1])), "of one kind and shape"),
        (finetune.Splits((["a"] * 40, [0] * 40)), "at least 2 classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_dataset_names_the_plug_in(splits, said):
    with pytest.raises(ConfigError) as raised:
        load(splits)
    assert "mine of tests." in str(raised.value)
    assert said in str(raised.value)


def test_the_fingerprint_is_of_the_examples():
    def fingerprint(word):
        return load(finetune.Splits(([f"{word} {i}" for i in range(40)], [0, 1] * 20))).fingerprint

    assert fingerprint("a") == fingerprint("a") != fingerprint("b")

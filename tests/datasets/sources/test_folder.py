"""Folders of images: both layouts, what is held out, and what is refused."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.datasets.sources.folder import load_folder
from finetune.errors import ConfigError
from tests.helpers.training_runs import train_run


def fill(folder, classes, number, seed=0):
    random = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for row in range(number):
            image = random.integers(0, 60, (10, 12, 3), dtype="uint8") + np.uint8(90 * index)
            suffix = (".png", ".JPG")[row % 2]
            encode = tf.io.encode_jpeg if suffix == ".JPG" else tf.io.encode_png
            (folder / name / f"{row:03}{suffix}").write_bytes(encode(image).numpy())


def sizes(dataset):
    return {name: split.num_examples for name, split in dataset.splits.items()}


def test_split_folders_are_read_as_they_are(tmp_path):
    for part, number in (("train", 5), ("val", 2), ("test", 3)):
        fill(tmp_path / part, ["b", "a"], number)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "a" / "._001.png").write_text("of a file manager")
    dataset = load_folder(str(tmp_path), seed=0)
    assert dataset.classes == ("a", "b")
    assert sizes(dataset) == {"train": 10, "validation": 4, "test": 6}
    assert dataset.splits["train"].labels.tolist() == [0] * 5 + [1] * 5
    first = tf.io.decode_image(dataset.splits["test"].examples[0], channels=3)
    assert first.shape == (10, 12, 3)


def test_one_folder_is_split_by_seed_each_class_in_its_share(tmp_path):
    fill(tmp_path, ["a", "b"], 20)
    one, same, other = (load_folder(str(tmp_path), seed=seed) for seed in (0, 0, 1))
    assert sizes(one) == {"train": 32, "validation": 4, "test": 4}
    for part in ("validation", "test"):
        assert np.bincount(one.splits[part].labels).tolist() == [2, 2]
    seen = [image for split in one.splits.values() for image in split.examples]
    assert len(set(seen)) == 40  # every image is in one split
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_missing_split_is_held_out_of_train_and_numbers_are_kept(tmp_path):
    fill(tmp_path / "train", ["a", "b"], 20)
    fill(tmp_path / "test", ["a", "b"], 3)
    assert sizes(load_folder(str(tmp_path), seed=0)) == {"train": 36, "validation": 4, "test": 6}
    few = load_folder(str(tmp_path), train_per_class=3, max_samples=4, seed=0)
    assert sizes(few) == {"train": 4, "validation": 4, "test": 4}


def test_the_fingerprint_changes_with_any_file_and_not_with_the_place(tmp_path, tmp_path_factory):
    for part in ("train", "validation", "test"):
        fill(tmp_path / part, ["a", "b"], 2)
    before = load_folder(str(tmp_path), seed=0)
    path = tmp_path / "test" / "b" / "000.png"
    path.write_bytes(tf.io.encode_png(np.zeros((4, 4, 3), "uint8")).numpy())
    after = load_folder(str(tmp_path), seed=0)
    assert before.fingerprint != after.fingerprint
    assert before.splits["train"].fingerprint == after.splits["train"].fingerprint
    there = tmp_path_factory.mktemp("there") / "copy"
    shutil.copytree(tmp_path, there)
    assert load_folder(str(there), seed=0).fingerprint == after.fingerprint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train").rename(root / "other"), "without a folder train"),
        (lambda root: (root / "val" / "c").mkdir(), "val/ must be a class of train"),
        (lambda root: (root / "train" / "c").mkdir(), "c, which contains no image"),
        (
            lambda root: [p.rename(root / p.name) for p in (root / "val").iterdir()],
            "with both: splits.*folders of images next to them",
        ),
        (lambda root: (root / "train" / "a" / "x.png").touch(), r"1 empty \(train/a/x.png\)"),
    ],
)
def test_a_layout_that_cannot_be_read_is_named(tmp_path, spoil, message):
    for part in ("train", "val", "test"):
        fill(tmp_path / part, ["a", "b"], 1)
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_folder(str(tmp_path), seed=0)


def test_no_directory_one_class_or_too_few_images(tmp_path):
    with pytest.raises(ConfigError, match="nowhere, which does not exist"):
        load_folder(str(tmp_path / "nowhere"), seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file, which is a file of an unknown kind"):
        load_folder(str(tmp_path / "file"), seed=0)
    with pytest.raises(ConfigError, match=r"at least 2 classes.*0 classes"):
        load_folder(str(tmp_path), seed=0)
    fill(tmp_path, ["a"], 2)
    with pytest.raises(ConfigError, match=r"at least 2 classes.*1 class"):
        load_folder(str(tmp_path), seed=0)
    fill(tmp_path, ["b"], 2)
    with pytest.raises(ConfigError, match="too few to hold out a tenth as validation"):
        load_folder(str(tmp_path), seed=0)


def test_a_run_on_a_folder(tmp_path):
    fill(tmp_path / "data", ["dark", "light"], 20)
    overrides = [
        "dataset=image_folder", f"dataset.path={tmp_path}/data", "schedule.phases.head.epochs=8",
        "schedule.phases.head.learning_rate=1e-2", "dataset.augment=light",
    ]  # fmt: skip
    record = train_run(tmp_path / "run", overrides)
    assert record.dataset.classes == ["dark", "light"]
    assert record.test["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=image_folder"], "dataset.path must be a folder of images. Received: nothing"),
        (["dataset.path=x"], "dataset.path must be null for dataset digits"),
        (["dataset=image_folder", "dataset.path=x", "dataset.version=1.0.0"], "Only TFDS datasets"),
    ],
)
def test_keys_that_do_not_go_together(overrides, message):
    with pytest.raises(ConfigError, match=message):
        read(compose_config(overrides))

"""Folders of splits under their usual names; whatever could be meant otherwise is refused."""

import logging
import unicodedata

import numpy as np
import pytest
from PIL import Image

from finetune.datasets.dataset import split_line
from finetune.datasets.sources.folder import folder_part, load_folder
from finetune.errors import ConfigError

_SHADES = np.random.default_rng(0)


def fill(root, *folders, number=2):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for row in range(number):
            pixels = _SHADES.integers(0, 255, (4, 4, 3), dtype="uint8")
            Image.fromarray(pixels).save(root / folder / f"{row}.png")


def splits_of(root, *names, classes="ab", number=2):
    fill(root, *(f"{split}/{name}" for split in names for name in classes), number=number)
    return root


def line_of(dataset):
    return split_line(dataset.used, dataset.unused)


def load(root, **more):
    return load_folder(str(root), seed=0, **more)


def sizes(dataset):
    return {name: split.num_examples for name, split in dataset.splits.items()}


def refused(root):
    with pytest.raises(ConfigError) as caught:
        load(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VAL", "TEST"),
        ("train", "valid", "test"),
        ("training_set", "dev_set", "test_set"),
        ("train", "dev", "Test"),
    ],
)
def test_usual_names_are_splits_and_one_line_says_so(tmp_path, caplog, train, validation, test):
    splits_of(tmp_path, train, number=3)
    splits_of(tmp_path, validation, number=1)
    splits_of(tmp_path, test)
    with caplog.at_level(logging.INFO):
        dataset = load(tmp_path)
    assert dataset.classes == ("a", "b")
    assert sizes(dataset) == {"train": 6, "validation": 2, "test": 4}
    line = f"splits: train is {train}/, validation is {validation}/, test is {test}/"
    assert line_of(dataset) == line and line in caplog.messages


def test_what_is_held_out_is_in_the_line(tmp_path):
    splits_of(tmp_path, "Train", "Test", number=10)
    dataset = load(tmp_path)
    assert sizes(dataset) == {"train": 18, "validation": 2, "test": 20}
    assert "validation is a tenth of Train/ (stratified, seed 0), test is Test/" in (
        line_of(dataset)
    )
    whole = load(tmp_path / "Train")
    assert line_of(whole).startswith("splits: train is Train/, validation is a tenth of Train/")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/a", "train/b", "Train/a", "test/a"], "with Train and train for train. Keep one"),
        (["train/a", "train/b", "val/a", "valid/b"], "with val and valid for validation"),
        (["train/a", "train/b", "cats", "dogs"], r"splits \(train\) and folders of images next to.*cats, d"),
        (["train", "bus", "car"], r"splits \(train\) and folders of images next to them \(bus, car"),
        (["test/a", "a", "b"], "folders of images next to them"),
        (["train/a", "train/b", "test"], "test, which holds 2 images and no class folder"),
        (["part1/a", "part1/b", "part2/a", "part2/b"], r"same names in each \(a, b\)"),
        (["x/a", "x/b", "x/c", "y/a", "y/b"], r"same names in each \(a, b, c\)"),
        (["seg_train/a", "seg_test/a", "seg_pred"], "look like splits under unusual names"),
        (["trainA", "testA", "trainB", "testB"], "look like splits under unusual names"),
        (["train2017/x", "val2017/x"], "one of their usual names: train or training; v"),
        (["cats/train", "cats/test", "dogs/train", "dogs/test"], "Move the images to DIR/train/CLASS"),
        (["train/train/a", "train/train/b", "test/test/a", "test/test/b"], "only the folder train, with a, b in it"),
    ],
)  # fmt: skip
def test_what_could_be_meant_otherwise_is_refused(tmp_path, folders, message):
    fill(tmp_path, *folders)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("folders", "below"),
    [
        (["archive/train/a", "archive/train/b", "archive/test/a"], "archive"),
        (["x/y/Training/a", "x/y/Testing/a"], "x/y"),
        (["archive/a", "archive/b"], "archive"),
        (["x/train/a", "x/train/b"], "x"),
        (["data/train/a", "data/val/a", "docs/figures"], "data"),
    ],
)
def test_one_level_too_deep_names_the_path_to_paste(tmp_path, folders, below):
    fill(tmp_path, *folders)
    (tmp_path / "__MACOSX").mkdir()
    assert f"Use dataset.path={tmp_path / below}" in refused(tmp_path)


def test_folders_of_classes_stay_what_they_are(tmp_path):
    fill(tmp_path, "a/images", "b/images", number=10)  # as Tiny ImageNet has them
    assert load(tmp_path).classes == ("a", "b")
    fill(tmp_path, "test tube", "train station", "c", "d", "e", number=10)
    assert load(tmp_path).classes == ("a", "b", "c", "d", "e", "test tube", "train station")


def test_images_without_folders_of_classes(tmp_path):
    fill(tmp_path, ".", number=3)
    text = refused(tmp_path)
    assert "which holds 3 images and no class folder" in text and "dataset=table" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.png", "which is a single image.*single images are for predict"),
        ("x.zip", "which is an archive. Unpack it"),
        ("x.tar.gz", "which is an archive. Unpack it"),
        ("x.csv", "which is a table. Use dataset=table"),
        ("x.npz", "which is a file of arrays. Use dataset=arrays"),
        ("x.xlsx", "which is a spreadsheet. Save it as CSV"),
    ],
)
def test_a_file_instead_of_a_folder(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / name)


def test_clutter_is_left_out_and_counted_wherever_it_is(tmp_path):
    splits_of(tmp_path, "train", "valid", "test", number=2)
    fill(tmp_path, "__MACOSX/train/a", "@eaDir", "train/.ipynb_checkpoints", "train/@eaDir/x")
    fill(tmp_path, "train/a/@eaDir", "test/a/__MACOSX")
    for name in ("Thumbs.db", "train/Thumbs.db", "valid/a/desktop.ini", "valid/a/.DS_Store", ".x"):
        (tmp_path / name).touch()
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b") and sizes(dataset)["train"] == 4
    assert dataset.ignored == {
        "__MACOSX": 2, "@eaDir": 3, ".ipynb_checkpoints": 1, "Thumbs.db": 2, "desktop.ini": 1,
        "dot files": 2,
    }  # fmt: skip


def test_folders_beside_splits_are_named_as_unused(tmp_path):
    splits_of(tmp_path, "train", "valid", "test", "extra")
    (tmp_path / "annotations").mkdir()
    dataset = load(tmp_path)
    assert dataset.unused == ("annotations/", "extra/")
    assert line_of(dataset).endswith("test is test/; not used: annotations/, extra/")


def test_one_class_is_one_however_its_accents_are_stored(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path, f"train/{composed}", f"train/{apart}", "train/b", f"test/{apart} ", "test/b")
    dataset = load(tmp_path, train_per_class=2)
    assert dataset.classes == ("b", composed)
    assert sizes(dataset)["test"] == 4
    assert np.bincount(dataset.splits["test"].labels).tolist() == [2, 2]
    part = folder_part(str(tmp_path), "test")
    assert list(part.classes) == ["b", composed] and part.found.used == {"test": "test/"}


def test_classes_that_look_alike_are_named(tmp_path, caplog):
    fill(tmp_path, "Cat", "cat", "big\xa0dog", "big dog", number=10)
    load(tmp_path)
    assert "classes that look alike: 'Cat', 'cat'" in caplog.text
    assert r"'big dog', 'big\xa0dog'" in caplog.text


@pytest.mark.parametrize("name", ["eval", "holdout", "Evaluation"])
def test_folders_of_the_same_classes_are_refused_where_a_split_is_missing(tmp_path, name):
    splits_of(tmp_path, "train", "test", number=12)
    fill(tmp_path, f"{name}/a", "notes/other")
    message = refused(tmp_path)
    assert f"without a folder validation, but with {name}, which contain the same class" in message
    assert "validation, valid, val or dev" in message and "move them out of DIR" in message
    splits_of(tmp_path, "val")
    assert line_of(load(tmp_path)).endswith(
        f"not used: {', '.join(sorted((name, 'notes')))}/".replace(", ", "/, ")
    )

"""Names of splits and classes as people mean them, and what no one means."""

import unicodedata

import pytest

from finetune.datasets.names import clutter, look_alikes, plain, split_of, suggested_split
from finetune.errors import unknown_name

NFD = unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Train", "TRAINING", "train_set", "training set", "Trainset", " train"]),
        ("validation", ["validation", "valid", "val", "dev", "DEV_SET", "Valid-Set", "development"]),
        ("test", ["test", "Testing", "TEST", "test_set", "testing_set", "testset"]),
        (None, ["tests", "trains", "evaluation", "set", "", "vale", "set_train", "train2"]),
    ],
)  # fmt: skip
def test_usual_names_of_splits(split, names):
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["seg_train", "train2017", "trainA", "TRAIN_images", "my training data"]),
        ("test", ["seg_test", "testB", "test-images"]),
        (None, ["trainers", "attest", "contest", "Valencia", "devices"]),
    ],
)
def test_words_that_speak_of_a_split(split, names):
    assert {name: suggested_split(name) for name in names} == dict.fromkeys(names, split)


def test_names_are_composed_and_stripped():
    assert {plain(name) for name in ("café", NFD, " café\u200b", "\ufeffcafé\xa0 ")} == {"café"}
    assert plain(" \u200b ") == ""


def test_clutter_of_systems_is_known_in_any_case():
    for name in (
        "__MACOSX",
        "@eaDir",
        ".ipynb_checkpoints",
        "Thumbs.db",
        "THUMBS.DB",
        "Desktop.ini",
    ):
        assert clutter(name) == name
    assert clutter(".DS_Store") == clutter("._1.png") == "dot files"
    assert clutter("cat.png") is clutter("MACOSX") is None


def test_names_that_look_alike():
    assert look_alikes(["dog", "big cat", "Big_cat", "cat"]) == [("big cat", "Big_cat")]
    assert look_alikes(["café", "cafe", "10", "1", "0.5", "0"]) == []
    assert look_alikes(["cat", "ca\u200bt", "1", "1.0"]) == [("cat", "ca\u200bt"), ("1", "1.0")]


def test_a_hint_shows_what_looks_the_same():
    text = unknown_name("x", "a class", NFD, ["café"])
    assert r"Did you mean café ('caf\xe9', and not 'cafe\u0301')?" in text
    assert unknown_name("x", "a class", "cst", ["cat"]).endswith("Did you mean cat?")
    assert "('cat', and not 'cat ')" in unknown_name("x", "a class", "cat ", ["cat"])
    cyrillic = "c\u0430t"
    assert r"not 'c\u0430t'" in unknown_name("x", "a class", cyrillic, ["cat"])

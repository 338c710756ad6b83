"""A directory of somebody else runs nothing, reads nothing outside itself, and cannot exhaust us."""

import json
import os
import pickle
import zipfile

import keras
import pytest

from finetune.backbones.loading import load
from finetune.cli import main
from tests.helpers import checkpoints
from tests.helpers.hostile import Marks, assert_refused, bert, edit

pytestmark = pytest.mark.usefixtures("nothing_runs")

LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "MARK"}}
LAMBDA_CODE = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None}}
# A module of this name is in the working directory; importing it leaves a mark.
IMPORTED = {"module": "keras_nlp", "class_name": "DTypePolicy", "config": {"name": "float32"}}
OBJECTS = {
    "lambda": LAMBDA,
    "lambda with code": LAMBDA_CODE,
    "lambda deep down": {"a": [{"b": {"c": [LAMBDA]}}]},
    "TFSMLayer": {
        "module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "MARK"},
    },
    "custom object": {
        "module": "evil", "class_name": "Evil", "registered_name": "evil>Evil", "config": {},
    },
    "registered name alone": {"registered_name": "evil>Evil", "config": {}},
    "import of a module": IMPORTED,
    "import of a submodule": {**IMPORTED, "module": "keras_nlp.evil"},
    "import from KerasHub": {**IMPORTED, "module": "keras_hub.src.models.backbone"},
    "another class behind a harmless name": {
        "module": "keras", "class_name": "DTypePolicy",
        "registered_name": "keras_hub>BertBackbone", "config": {},
    },
    "function": {"module": "os", "class_name": "function", "registered_name": "system",
                 "config": "system"},
    "tensor": {"class_name": "__tensor__", "config": {"value": [1], "dtype": "float32"}},
    "numpy": {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}},
    "legacy class": {"class_name": "Lambda", "config": {}},
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("file", ["config.json", "image_converter.json"])
@pytest.mark.parametrize("place", ["config", "build_config", "compile_config"])
def test_objects_in_a_preset(copy, name, file, place):
    edit(copy / file, lambda old: {**old, place: {**(old.get(place) or {}), "x": OBJECTS[name]}})
    assert_refused(copy, f"in {file}, keras_hub>ResNet\\w+ and no other class")


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_as_the_policy_of_a_backbone(copy, name):
    edit(copy / "config.json", lambda old: old["config"].update(dtype=OBJECTS[name]))
    assert_refused(copy, "in config.json, keras_hub>ResNetBackbone and no other class")


@pytest.mark.parametrize("name", ["Functional", "Sequential", "Lambda", "evil>Evil", "TFSMLayer"])
def test_objects_in_place_of_a_backbone(copy, name):
    edit(copy / "config.json", lambda old: old.update(registered_name=name, class_name=name))
    assert_refused(copy, f"Received: {name}")


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_in_a_tokenizer(tmp_path, name):
    directory = bert(tmp_path)
    edit(directory / "tokenizer.json", lambda old: old["config"].update(x=OBJECTS[name]))
    assert_refused(directory, "in tokenizer.json, keras_hub>BertTokenizer and no other class")


@pytest.mark.parametrize("key", ["vocabulary", "merges", "proto"])
def test_a_tokenizer_names_no_file_elsewhere(tmp_path, key):
    directory = bert(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("\n".join(checkpoints.WORDS))
    edit(directory / "tokenizer.json", lambda old: old["config"].update({key: str(secret)}))
    assert_refused(directory, f"Received: {key}='.*secret.txt'")


def test_tasks_and_preprocessors_are_not_loaded(copy):
    (copy / "task.json").write_text(json.dumps(LAMBDA))
    (copy / "task.weights.h5").write_bytes(b"x")
    (copy / "preprocessor.json").write_text(json.dumps(LAMBDA))
    assert load(path=copy).source == "directory"


BOMBS = {
    "deep list": "[" * 100_000,
    "deep mapping": '{"a":' * 100_000,
    "deep, closed": '{"a":' * 900 + "1" + "}" * 900,
    "huge number": '{"registered_name": ' + "9" * 100_000 + "}",
    "infinite": '{"registered_name": Infinity}',
    "nan": '{"registered_name": NaN}',
    "duplicate key": '{"registered_name": "a", "registered_name": "keras_hub>ResNetBackbone"}',
    "half a character": '{"registered_name": "\\ud800"}',
    "null byte": '{"registered_name": "\0"}',
    "not utf-8": b'{"registered_name": "\xff"}',
    "empty": "",
    "a list": "[]",
    "large": b" " * (65 << 20),
}


@pytest.mark.parametrize("file", ["config.json", "image_converter.json"])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_in_json(copy, file, name):
    bomb = BOMBS[name]
    (copy / file).write_bytes(bomb if isinstance(bomb, bytes) else bomb.encode())
    assert_refused(copy, f"backbone.path must (contain.*{file}|be a directory)")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stackwise_num_blocks", [1, 10**6]),
        ("stackwise_num_blocks", [1] * 5000),
        ("stackwise_num_filters", [64, 10**12]),
        ("image_shape", [10**9, 10**9, 3]),
        ("input_conv_filters", [10**400]),
        ("input_conv_kernel_sizes", [1e400]),
    ],
)
def test_sizes_without_bound(copy, key, value):
    text = json.dumps(value).replace("Infinity", "1e400")
    content = json.loads((copy / "config.json").read_text())
    content["config"][key] = "HERE"
    (copy / "config.json").write_text(json.dumps(content).replace('"HERE"', text))
    assert_refused(copy, f"sizes of at most .* Received: {key}=")


def write_keras(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def archive(tmp_path, name):
    """A model.keras, alone in a directory, that does harm if it is read."""
    directory = tmp_path / "archive"
    directory.mkdir()
    file = directory / "model.keras"
    if name == "lambda":
        inputs = keras.Input((2,))
        keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(file)
    elif name == "traversal":
        write_keras(file, {"../../work/MARK": "x", "config.json": json.dumps(LAMBDA)})
    elif name == "bomb":
        write_keras(
            file, {"config.json": b" " * (64 << 20), "model.weights.h5": b"\0" * (64 << 20)}
        )
    else:
        file.write_bytes(pickle.dumps(Marks()))
    return directory


@pytest.mark.parametrize("name", ["lambda", "traversal", "bomb", "pickle"])
def test_archives_of_keras_are_not_read(tmp_path, name):
    directory = archive(tmp_path, name)
    assert_refused(directory, r"\(a directory with model.keras, a file of a Keras model\)")
    assert_refused(directory / "model.keras", r"\(a file of a Keras model\)")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "/proc/self/mem", "resnet_18_imagenet"])
def test_paths_that_are_no_directory(name):
    assert_refused(name, r"no such directory|without config.json|\(a file\)")


def test_a_directory_called_like_a_preset_is_that_directory(copy, tmp_path, monkeypatch):
    """KerasHub would ask the network for its own preset of that name."""
    monkeypatch.chdir(tmp_path)
    copy.rename(tmp_path / "resnet_18_imagenet")
    assert load(path="resnet_18_imagenet").name == "resnet_18_imagenet"
    os.chdir(tmp_path / "work")


def test_the_command_line_refuses_with_one_block(copy, capsys):
    edit(copy / "config.json", lambda old: old["config"].update(dtype=IMPORTED))
    assert main(["inspect", "backbone=local", f"backbone.path={copy}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: backbone.path must contain") and error.count("\n") == 1

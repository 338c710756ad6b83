import shutil
import socket
import time

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones import network
from finetune.backbones.catalog import BUNDLED_BACKBONES
from finetune.backbones.loading import load, weights_sha256
from finetune.errors import ConfigError


def test_directory(preset):
    loaded = load(path=preset)
    assert (loaded.name, loaded.source, loaded.image_size) == ("tiny", "directory", (16, 16))
    assert loaded.backbone.input_shape == (None, 16, 16, 3)
    assert loaded.image_converter.scale == 1 / 128
    assert loaded.weights_sha256 == load(path=preset, name="other").weights_sha256
    image = np.full((20, 20, 3), 64, "uint8")
    assert np.array(loaded.image_converter(image)).shape == (16, 16, 3)


def test_digest_sees_a_changed_weight(preset):
    backbone = load(path=preset).backbone
    before = weights_sha256(backbone)
    backbone.weights[0].assign_add(keras.ops.ones_like(backbone.weights[0]))
    assert weights_sha256(backbone) != before


def test_image_size_rebuilds_with_the_same_weights(preset):
    loaded = load(path=preset, image_size=24)
    assert loaded.backbone.input_shape == (None, 24, 24, 3)
    assert loaded.image_converter.image_size == loaded.image_size == (24, 24)
    assert loaded.weights_sha256 == load(path=preset).weights_sha256


def test_random_weights_follow_the_seed(preset):
    digests = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        digests.append(load(path=preset, load_weights=False).weights_sha256)
    assert digests[0] == digests[1] != digests[2]
    assert load(path=preset).weights_sha256 not in digests


def test_refused_image_size(tmp_path):
    vit = keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 8, 8)
    vit.save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    assert loaded.image_size == (16, 16)
    assert loaded.image_converter.scale == 1 / 255  # the preset has none of its own
    with pytest.raises(ConfigError, match=r"^dataset.image_size must be .* Received: 17 "):
        load(path=tmp_path, image_size=17)


def test_efficientnet_takes_an_image_size(tmp_path):
    arguments = {
        f"stackwise_{key}": [value]
        for key, value in {
            "width_coefficients": 1.0,
            "depth_coefficients": 1.0,
            "kernel_sizes": 3,
            "num_repeats": 1,
            "input_filters": 8,
            "output_filters": 8,
            "expansion_ratios": 1,
            "squeeze_and_excite_ratios": 0.25,
            "strides": 1,
            "block_types": "v1",
        }.items()
    }
    keras_hub.models.EfficientNetBackbone(**arguments).save_to_preset(str(tmp_path))
    assert load(path=tmp_path).image_size == (224, 224)
    assert load(path=tmp_path, image_size=40).backbone.input_shape == (None, 40, 40, 3)


def test_damaged_weights(preset, tmp_path):
    shutil.copytree(preset, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.weights.h5").write_bytes(b"\0" * 100)
    with pytest.raises(ConfigError, match="Check that the file is complete"):
        load(path=tmp_path)


def test_unknown_presets():
    with pytest.raises(ConfigError, match="Did you mean resnet_18_imagenet?"):
        load("resnet_18_imagenets")
    with pytest.raises(
        ConfigError, match="a family that can be fine-tuned.*Received: gpt2_base_en"
    ):
        load("gpt2_base_en")
    with pytest.raises(ConfigError, match="exactly one of preset and path"):
        load()


def test_revision_is_for_hugging_face_alone(preset):
    for arguments in (
        {"preset": "resnet_mini"},
        {"preset": "resnet_18_imagenet"},
        {"path": preset},
    ):
        with pytest.raises(
            ConfigError, match="^backbone.revision must be null.*Received: main with"
        ):
            load(**arguments, revision="main")


def test_options_of_the_other_kind(preset):
    with pytest.raises(ConfigError, match="^dataset.sequence_length must be null.*Received: 64"):
        load(path=preset, sequence_length=64)


def test_no_head_is_left(preset, tmp_path):
    classifier = keras_hub.models.ResNetImageClassifier.from_preset(str(preset), num_classes=5)
    classifier.save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    assert type(loaded.backbone) is keras_hub.models.ResNetBackbone
    assert loaded.weights_sha256 == load(path=preset).weights_sha256


@pytest.mark.parametrize(
    ("cls", "size"), [("DINOV2", (28, 28)), ("DINOV3", (28, 28)), ("ViT", (16, 16))]
)
def test_image_backbones_without_and_with_a_classifier(tmp_path, cls, size):
    make = getattr(keras_hub.models, f"{cls}Backbone")
    if cls == "ViT":
        backbone = make((16, 16, 3), 8, 1, 2, 8, 8)
    else:
        backbone = make(14, 1, 8, 2, 8, image_shape=(28, 28, 3))
    backbone.save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    assert (loaded.kind, loaded.image_size) == ("image", size)
    images = np.zeros((2, 40, 40, 3), "uint8")
    assert loaded.preprocessor(images).shape == (2, *size, 3)
    for ours, theirs in zip(loaded.backbone.weights, backbone.weights, strict=True):
        assert keras.ops.all(ours == theirs)


def test_no_network(monkeypatch, tmp_path):
    def slow(*_, **__):
        time.sleep(2)
        raise OSError

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", slow)
    monkeypatch.setattr(network, "_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(ConfigError, match="^backbone.preset .*network at first use.*resnet_mini"):
        load("resnet_18_imagenet")


def test_download_that_breaks(monkeypatch):
    import requests

    def broken(*_, **__):
        raise requests.exceptions.ConnectionError("reset by peer")

    monkeypatch.setattr(network, "reachable", lambda *_: True)
    monkeypatch.setattr(keras_hub.layers.ResNetImageConverter, "from_preset", broken)
    with pytest.raises(ConfigError, match="network at first use.*reset by peer"):
        load("resnet_18_imagenet")


def test_cached_preset_needs_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setattr(network, "reachable", lambda *_: False)
    directory = tmp_path / "models" / "keras" / "a" / "keras" / "b" / "1"
    directory.mkdir(parents=True)
    for name in ("config.json", "model.weights.h5"):
        with pytest.raises(ConfigError):
            network.require("kaggle://keras/a/keras/b/1", "b")
        (directory / name).touch()
    network.require("kaggle://keras/a/keras/b/1", "b")


def test_bundled():
    entry = BUNDLED_BACKBONES["resnet_mini"]
    loaded = load("resnet_mini")
    assert (loaded.name, loaded.source) == ("resnet_mini", "bundled")
    assert loaded.image_size == entry.image_size
    assert loaded.backbone.count_params() == entry.parameters

import json
from types import SimpleNamespace

import keras_hub
import numpy as np
import pytest
from PIL import Image

from finetune.backbones import converters
from finetune.backbones.converters import describe
from finetune.backbones.directories import recognise
from finetune.backbones.loading import load
from finetune.errors import ConfigError
from tests.helpers import checkpoints

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def noise(height, width):
    """Stays off black and white, where Pillow cuts off what bicubic resampling overshoots."""
    return np.random.default_rng(0).integers(60, 196, (height, width, 3), dtype="uint8")


def expected(image, size, mean, std, resample=None):
    """What Pillow and NumPy make of an image, without Keras."""
    if resample is not None:
        image = Image.fromarray(image).resize((size[1], size[0]), resample)
    return (np.asarray(image, "float64") / 255 - mean) / std


def processor(directory, **changes):
    content = {**checkpoints.PROCESSOR, **changes}
    (directory / "preprocessor_config.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return checkpoints.vit(tmp_path_factory.mktemp("vit"))[0]


def test_hugging_face_arithmetic(vit):
    processor(vit)
    image = noise(16, 16)
    loaded = load(path=vit)
    found = np.array(loaded.image_converter(image))
    np.testing.assert_allclose(
        found, expected(image, (16, 16), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]), atol=1e-5
    )
    assert loaded.preprocessing == {
        "image_size": [16, 16],
        "scale": round(1 / 255, 8),
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.6, 0.7],
        "interpolation": "bicubic",
        "antialias": True,
        "crop_to_aspect_ratio": False,
        "pad_to_aspect_ratio": False,
    }
    assert json.loads(json.dumps(loaded.preprocessing)) == loaded.preprocessing


@pytest.mark.parametrize(("resample", "name"), [(0, "nearest"), (2, "bilinear"), (3, "bicubic")])
def test_hugging_face_resampling(vit, resample, name):
    processor(vit, resample=resample)
    image = noise(40, 56)
    converter = load(path=vit).image_converter
    assert converter.interpolation == name
    theirs = expected(image, (16, 16), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7], resample)
    # Pillow rounds to a whole number on the way, twice: one level of 255 after the division.
    assert np.abs(np.array(converter(image)) - theirs).max() <= 1.5 / 255 / 0.5


def test_timm_arithmetic_and_resampling(tmp_path):
    directory, _ = checkpoints.resnet18(tmp_path)
    loaded = load(path=directory, load_weights=False)
    assert loaded.image_size == (32, 32)
    same, larger = noise(32, 32), noise(50, 50)
    found = np.array(loaded.image_converter(same))
    np.testing.assert_allclose(found, expected(same, (32, 32), MEAN, STD), atol=1e-5)
    theirs = expected(larger, (32, 32), MEAN, STD, 3)
    assert np.abs(np.array(loaded.image_converter(larger)) - theirs).max() <= 1.5 / 255 / 0.224
    assert loaded.preprocessing["mean"] == MEAN and loaded.preprocessing["std"] == STD
    assert loaded.preprocessing["interpolation"] == "bicubic"
    assert loaded.preprocessing["checkpoint_crop_not_applied"] == 0.95


def test_timm_defaults(tmp_path):
    directory, _ = checkpoints.resnet18(tmp_path, pretrained_cfg=None)
    described = load(path=directory, load_weights=False).preprocessing
    assert (described["image_size"], described["mean"]) == ([224, 224], MEAN)
    assert described["interpolation"] == "bicubic"


@pytest.mark.parametrize(
    ("changes", "crop", "size", "whole"),
    [
        ({"size": 16}, None, [16, 16], True),
        ({"size": {"shortest_edge": 16}}, None, [16, 16], False),
        (
            {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16},
            0.8,
            [16, 16],
            False,
        ),
        ({"size": {"height": 24, "width": 24}}, None, [16, 16], True),  # the ViT takes 16 alone
    ],
)
def test_sizes_and_crops(vit, changes, crop, size, whole):
    processor(vit, **changes)
    described = load(path=vit).preprocessing
    assert described["image_size"] == size
    assert described["crop_to_aspect_ratio"] is not whole
    assert described.get("checkpoint_crop_not_applied") == crop


@pytest.mark.parametrize(
    ("changes", "scale", "offset"),
    [
        ({"do_normalize": False}, 1 / 255, 0),
        ({"rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1}, 1 / 127.5, -1),
        ({"do_rescale": False, "image_mean": [5] * 3, "image_std": [2] * 3}, 0.5, -2.5),
    ],
)
def test_steps_that_are_left_out(vit, changes, scale, offset):
    processor(vit, **changes)
    image = noise(16, 16)
    found = np.array(load(path=vit).image_converter(image))
    np.testing.assert_allclose(found, image * scale + offset, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"resample": 4}, "a resample that Keras supports: 0 .nearest.*Received: 4"),
        ({"image_mean": None}, "image_mean and image_std. Received: no image_mean"),
    ],
)
def test_settings_that_keras_has_nothing_for(vit, changes, match):
    processor(vit, **changes)
    with pytest.raises(ConfigError, match=f"^backbone.path must contain.*{match}"):
        load(path=vit)


def test_timm_interpolation_that_keras_has_nothing_for(tmp_path):
    directory, _ = checkpoints.resnet18(tmp_path, pretrained_cfg={"interpolation": "box"})
    with pytest.raises(ConfigError, match="an interpolation that Keras supports.*Received: box"):
        load(path=directory, load_weights=False)


def test_dino_is_used_at_the_size_of_its_processor(tmp_path):
    config = {
        "model_type": "dinov2",
        "image_size": 56,
        "patch_size": 14,
        "hidden_size": 8,
        "mlp_ratio": 2,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "layerscale_value": 1.0,
        "use_swiglu_ffn": False,
        "hidden_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
    }
    directory = checkpoints.write(tmp_path, config, {})
    processor(directory, size={"shortest_edge": 32}, do_center_crop=True, crop_size=28)
    assert recognise(directory, "backbone.path").family.name == "dinov2"
    loaded = load(path=directory, load_weights=False)
    assert loaded.image_size == (28, 28)
    assert loaded.preprocessor(noise(30, 40)).shape == (28, 28, 3)
    assert load(path=directory, load_weights=False, image_size=42).image_size == (42, 42)


def test_kerashub_preset_is_described(preset):
    described = load(path=preset).preprocessing
    assert described["image_size"] == [16, 16]
    # scale = 1/128: (pixel / 255 - 0) / (128 / 255)
    assert described["std"] == [round(128 / 255, 6)] * 3 and described["mean"] == [0.0] * 3


def test_converter_that_does_nothing():
    parts = {
        "interpolation": "bilinear", "antialias": False,
        "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": False,
    }  # fmt: skip
    described = describe(SimpleNamespace(image_size=None, scale=None, offset=None, **parts))
    assert (described["scale"], described["mean"], described["std"]) == (1.0, [0.0] * 3, [1.0] * 3)


def test_the_digest_changes_with_every_setting_that_counts():
    def digest(**more):
        settings = {"image_size": (8, 8), "scale": 0.1, "offset": 0.2, **more}
        return converters.sha256(keras_hub.layers.ViTImageConverter(**settings))

    others = [{"scale": 0.1000001}, {"offset": 0.3}, {"image_size": (9, 9)}, {"antialias": True},
              {"interpolation": "bicubic"}, {"crop_to_aspect_ratio": False}]  # fmt: skip
    assert digest() == digest(name="another")
    assert len({digest(), *(digest(**settings) for settings in others)}) == 1 + len(others)

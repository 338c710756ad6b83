"""Backbones that a function of a plug-in provides."""

from pathlib import Path

import pytest

import finetune
from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.backbones.loading import load
from finetune.config import entry_points
from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.errors import ConfigError
from tests.helpers.plugins import installer


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


@pytest.mark.parametrize("kind", [Path, str])
def test_a_function_provides_the_directory_of_a_checkpoint(kind):
    @finetune.backbone("mine")
    def mine():
        return kind(NAMED_BACKBONES["resnet_mini"].path)

    assert read(compose_config(["backbone=mine"])).backbone.preset == "mine"
    found, bundled = load(preset="mine", image_size=64), load(preset="resnet_mini")
    assert (found.name, found.source, found.image_size) == ("mine", "package", (64, 64))
    assert found.weights_sha256 == bundled.weights_sha256
    assert bundled.source == "bundled"


def test_a_function_that_fails_or_names_no_checkpoint(tmp_path):
    @finetune.backbone("failing")
    def failing():
        raise OSError("no network")

    @finetune.backbone("empty")
    def empty():
        return tmp_path

    with pytest.raises(ConfigError) as raised:
        load(preset="failing")
    assert str(raised.value) == (
        f"backbone.preset must be a backbone that works. Received: failing of {__name__}, which "
        "raised OSError: no network (line 39 of test_plugin_backbones.py). Correct what is registered."
    )

    @finetune.backbone("nothing")
    def nothing():
        return None

    with pytest.raises(ConfigError, match=rf"backbone\.preset \(empty of {__name__}\) must be"):
        load(preset="empty")
    with pytest.raises(
        ConfigError, match="returns the directory of a checkpoint. Received: NoneType"
    ):
        load(preset="nothing")
    with pytest.raises(ConfigError, match=r"Received: fail\..*failing"):
        load(preset="fail")

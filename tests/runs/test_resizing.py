"""How images become square: one key, the same in training, in the record and in the saved model."""

import numpy as np
import pytest
from PIL import Image

from finetune.backbones.loading import load
from finetune.cli import main
from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.errors import ConfigError
from finetune.inference.api import LoadedRun
from finetune.inference.trained import load_trained
from finetune.record.files import read_json
from finetune.runs.build import Workbench


@pytest.fixture
def folder(tmp_path):
    """Images of 16 × 64 pixels, whose classes differ only at the ends that a crop cuts off."""
    for name, ends in (("a", 30), ("b", 220)):
        for part in ("train", "val", "test"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for row in range(8):
                pixels = np.full((16, 64, 3), 128 + row, "uint8")
                pixels[:, :16] = pixels[:, -16:] = ends + row
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{row}.png")
    return tmp_path


@pytest.mark.parametrize("way", ["crop", "pad", "stretch"])
def test_a_converter_does_as_it_is_told(way):
    own, told = load("resnet_mini"), load("resnet_mini", resize=way)
    assert told.preprocessing["crop_to_aspect_ratio"] is (way == "crop")
    assert told.preprocessing["pad_to_aspect_ratio"] is (way == "pad")
    same = told.preprocessing_sha256 == own.preprocessing_sha256
    assert same is (way == "crop")  # its own way; a part of the key of stored features
    image = np.full((16, 64, 3), 255, "float32")
    image[:, :16] = image[:, -16:] = 0
    scaled = np.asarray(told.image_converter(image))[16]
    bright = int((scaled[:, 0] > scaled[:, 0].max() - 1e-3).sum())
    outside = np.asarray(told.image_converter(image))[0, 16, 0]
    assert bright == {"crop": 32, "pad": 16, "stretch": 16}[way]
    assert (outside < scaled[16, 0]) is np.bool_(way == "pad")  # black above the image


def test_the_saved_model_resizes_as_it_was_trained(folder, capsys):
    found = {}
    for way in ("crop", "stretch", "pad"):
        directory = folder / way
        arguments = [
            "dataset=image_folder", f"dataset.path={folder}/data", f"dataset.resize={way}",
            "dataset.batch_size=8", "schedule.phases.head.epochs=4", "runtime.device=cpu",
            f"features.dir={folder}/features", f"hydra.run.dir={directory}",
        ]  # fmt: skip
        assert main(["--quiet", *arguments]) == 0
        record = read_json(directory / "run.json")
        assert record.backbone.preprocessing["crop_to_aspect_ratio"] is (way == "crop")
        assert record.config["dataset"]["resize"] == way
        trained = load_trained(directory)
        assert trained.image_converter.crop_to_aspect_ratio is (way == "crop")
        files = [folder / f"data/test/{name}/{row}.png" for name in "ab" for row in range(8)]
        chosen = LoadedRun(trained).predict(files).argmax(1)
        found[way] = record.test["accuracy"]
        assert record.dataset.samples  # pictures for the report are made in the same way
        assert np.mean(chosen == [0] * 8 + [1] * 8) == found[way]
        assert "could not be shown" not in (directory / "finetune.log").read_text()
        assert record.phases[0].features["samples_extracted"] == 48  # not those of the other way
    assert found == {"crop": 0.5, "stretch": 1.0, "pad": 1.0}


def test_wrong_ways_are_refused():
    with pytest.raises(ConfigError, match="dataset.resize must be a way to resize.*crop, pad, str"):
        read(compose_config(["dataset.resize=squash"]))
    with pytest.raises(ConfigError, match="dataset.resize must be null for the text backbone"):
        _text_backbone()


def _text_backbone():
    from finetune.backbones.loading import _refuse_foreign_options

    _refuse_foreign_options("minilm", "text", {"image_size": None, "resize": "pad"})


@pytest.mark.parametrize(("side", "told"), [(128, True), (100, False)])
def test_much_larger_images_than_a_small_backbone_sees_are_told(tmp_path, side, told):
    for row in range(40):
        (tmp_path / "ab"[row % 2]).mkdir(exist_ok=True)
        noise = np.random.default_rng(row).integers(0, 255, (side, 200, 3), "uint8")
        Image.fromarray(noise).save(tmp_path / "ab"[row % 2] / f"{row}.png")
    bench = Workbench()
    given = ["dataset=image_folder", f"dataset.path={tmp_path}", "runtime.device=cpu"]
    bench.run(read(compose_config(given)))
    lines = bench.news()
    assert lines[0].startswith(f"splits: train is {tmp_path.name}/, validation is a tenth of")
    assert len(lines) == 1 + told and bench.news() == []
    if told:
        assert "about 200 × 128 pixels and resnet_mini sees 32 × 32" in lines[1]
        assert "backbone=efficientnet_b0" in lines[1]

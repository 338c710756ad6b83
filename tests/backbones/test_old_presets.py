"""Presets of older releases, of other precisions, and what is no preset at all."""

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones.loading import load
from finetune.errors import ConfigError
from tests.helpers import checkpoints, hostile

pytestmark = pytest.mark.usefixtures("nothing_runs")  # no module of a config is imported


def vit(directory, **arguments):
    backbone = keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 8, 8, **arguments)
    backbone.save_to_preset(str(directory))
    converter = keras_hub.layers.ViTImageConverter(image_size=(16, 16), scale=1 / 127.5, offset=-1)
    converter.save_to_preset(str(directory))
    return directory


def as_keras_nlp(directory):
    for file in directory.glob("*.json"):
        text = file.read_text().replace("keras_hub>", "keras_nlp>")
        file.write_text(text.replace("keras_hub.src", "keras_nlp.src"))
    return directory


def test_text_preset_of_keras_nlp(tmp_path):
    now = load(path=hostile.bert(tmp_path))
    old = load(path=as_keras_nlp(tmp_path / "bert"))
    assert (old.weights_sha256, old.preprocessing_sha256) == (
        now.weights_sha256,
        now.preprocessing_sha256,
    )


def test_image_preset_of_keras_nlp(copy):
    now, old = load(path=copy), load(path=as_keras_nlp(copy))
    assert old.weights_sha256 == now.weights_sha256
    assert old.preprocessing == now.preprocessing


@pytest.mark.parametrize(
    "name", ["keras_nlp>ViTBackbone", "keras_cv.models>ResNetBackbone", "keras_nlp>Backbone"]
)
def test_other_names_are_refused(copy, name):
    if name.endswith("ViTBackbone"):  # a name of the list for another class
        hostile.edit(copy / "config.json", lambda old: old.update(registered_name=name))
        hostile.assert_refused(copy, "in config.json, keras_hub>ViTBackbone and no other class")
    else:
        hostile.edit(copy / "config.json", lambda old: old.update(registered_name=name))
        hostile.assert_refused(copy, f"registered_name names.*Received: {name}")


@pytest.mark.parametrize("scale", [1 / 255, None])
def test_converter_with_a_second_step(tmp_path, scale):
    """KerasHub 0.21: (pixel × scale − norm_mean) / norm_std."""
    vit(tmp_path)
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.25, 0.2]

    def to_old(content):
        content["config"].pop("offset")
        content["config"].update(scale=scale, norm_mean=mean, norm_std=std)

    hostile.edit(tmp_path / "image_converter.json", to_old)
    loaded = load(path=tmp_path)
    image = np.full((16, 16, 3), 51, "float32")
    expected = (51 * (1 if scale is None else scale) - np.array(mean)) / np.array(std)
    found = keras.ops.convert_to_numpy(loaded.image_converter(image))[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    if scale is not None:
        np.testing.assert_allclose(loaded.preprocessing["mean"], mean, atol=1e-6)
        np.testing.assert_allclose(loaded.preprocessing["std"], std, atol=1e-6)


def test_converter_whose_second_step_divides_by_zero(tmp_path):
    vit(tmp_path)
    hostile.edit(
        tmp_path / "image_converter.json",
        lambda old: old["config"].update(norm_std=[1.0, 0.0, 1.0]),
    )
    hostile.assert_refused(tmp_path, "image_converter.json with norm_std other than 0")


def test_settings_of_another_release(tmp_path):
    vit(tmp_path)
    hostile.edit(tmp_path / "image_converter.json", lambda old: old["config"].update(sharpen=1))
    hostile.assert_refused(
        tmp_path, r"keyword argument.*'sharpen'.*\)\. It was written by another version of KerasHub"
    )


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16", "float16"])
def test_other_precisions_are_loaded_in_that_of_the_run(tmp_path, policy):
    loaded = load(path=vit(tmp_path, dtype=policy))
    assert loaded.backbone.dtype_policy.name == "float32"
    assert {weight.dtype for weight in loaded.backbone.weights} == {"float32"}
    assert loaded.coverage.absent == ()


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_quantized_preset(tmp_path):
    backbone = keras_hub.models.Backbone.from_preset(str(vit(tmp_path / "vit")))
    backbone.quantize("int8")
    backbone.save_to_preset(str(tmp_path / "int8"))
    hostile.assert_refused(
        tmp_path / "int8", "weights in floating point, because quantized ones cannot be fine-tuned"
    )


def test_quantized_model_of_hugging_face(tmp_path):
    directory, _ = checkpoints.bert(tmp_path / "bert", quantization_config={"load_in_8bit": True})
    hostile.assert_refused(directory, "quantized ones.*quantization_config in config.json")


def test_preset_without_metadata(copy):
    before = load(path=copy).weights_sha256
    (copy / "metadata.json").unlink()
    assert load(path=copy).weights_sha256 == before


def test_task_preset_with_a_head_of_other_classes(tmp_path):
    converter = keras_hub.layers.ViTImageConverter(image_size=(16, 16), scale=1 / 127.5, offset=-1)
    backbone = keras_hub.models.Backbone.from_preset(str(vit(tmp_path / "vit")))
    task = keras_hub.models.ViTImageClassifier(
        backbone, 7, keras_hub.models.ViTImageClassifierPreprocessor(converter)
    )
    task.save_to_preset(str(tmp_path / "task"))
    loaded = load(path=tmp_path / "task")
    assert loaded.weights_sha256 == load(path=tmp_path / "vit").weights_sha256
    assert loaded.coverage.absent == ()


def test_files_and_folders_of_keras(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    folder = tmp_path / "model"
    folder.mkdir()
    model.save(folder / "m.keras")
    for path, found in (
        (folder / "m.keras", "a file of a Keras model"),
        (folder, "a directory with m.keras, a file of a Keras model"),
    ):
        hostile.assert_refused(path, rf"\({found}\)\. Load it in Python.*finetune\.FineTuner")
    (folder / "m.keras").rename(folder / "m.h5")
    hostile.assert_refused(folder / "m.h5", r"\(a file of a Keras model\)")
    (folder / "saved_model.pb").touch()
    hostile.assert_refused(folder, "SavedModel, which cannot be trained")


def test_a_run_directory(tmp_path, preset):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    hostile.assert_refused(run, "a run directory.*The run has not saved a model")
    shutil.copytree(preset, run / "model")
    hostile.assert_refused(
        run, rf"a run directory\)\. Give the model that the run has saved: {run}/model"
    )
    assert load(path=run / "model").name == "model"
    # A head of this package is saved with the backbone in one file.
    (run / "model/model.weights.h5").rename(run / "model/model.keras")
    hostile.assert_refused(run, r"saved backbone and head in one file, .*model\.keras\. Load it")
    hostile.assert_refused(run / "model", r"Its weights are in model\.keras.*Load it in Python")


def test_a_file_inside_the_directory(preset):
    hostile.assert_refused(
        preset / "model.weights.h5",
        rf"Received: .*\. Load it in Python|Give the directory.*{preset}",
    )
    file = preset / "config.json"
    with pytest.raises(ConfigError, match=rf"\(a file\)\. Give its directory: {preset}"):
        load(path=file)
    assert json.loads(file.read_text())

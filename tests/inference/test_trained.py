"""Loading the models of completed runs, and refusing directories that do not hold one."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

from finetune.errors import ConfigError
from finetune.inference.trained import load_trained
from tests.helpers.backbones import BACKBONES_ONLY, IMAGE_FAMILIES, make_inputs
from tests.helpers.trained_runs import (
    image_run,
    own_run,
    seal,
    text_run,
)


def numbers(outputs):
    return keras.ops.convert_to_numpy(outputs)


@pytest.mark.filterwarnings(
    "ignore:(?s).*layer '(stage_|attn):UserWarning"
)  # KerasHub's own, of Swin
@pytest.mark.parametrize("name", [*IMAGE_FAMILIES, *BACKBONES_ONLY])
def test_every_image_family_gives_the_same_outputs(name, tmp_path):
    task, converter = image_run(tmp_path, name)
    trained = load_trained(tmp_path)
    inputs = make_inputs(name)
    inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    np.testing.assert_allclose(
        trained.model.predict(inputs, verbose=0), task.predict(inputs, verbose=0), rtol=1e-5
    )
    assert (trained.kind, trained.classes, trained.multi_label) == ("image", ("a", "b", "c"), False)
    assert trained.from_logits and trained.image_size == tuple(converter.image_size)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), dtype="uint8")
    np.testing.assert_array_equal(
        numbers(trained.image_converter(images)), numbers(converter(images))
    )


@pytest.mark.parametrize("pooling", ["auto", "avg", "cls"])
def test_texts_give_the_same_outputs(pooling, tmp_path):
    task, preprocessor = text_run(tmp_path, pooling)
    trained = load_trained(tmp_path)
    texts = ["The café.", "cats", "the cat sat the cats"]
    made = trained.preprocessor(texts)
    for key, value in preprocessor(texts).items():
        np.testing.assert_array_equal(numbers(made[key]), numbers(value))
    assert trained.kind == "text" and trained.image_size is None
    np.testing.assert_allclose(
        trained.model.predict(made, verbose=0), task.predict(made, verbose=0), rtol=1e-5
    )


def test_a_model_of_the_users_own(tmp_path):
    model, record, x = own_run(tmp_path)
    trained = load_trained(tmp_path)
    assert trained.record.test == record.test and not trained.from_logits
    assert (trained.kind, trained.preprocessor) == ("array", None)
    np.testing.assert_allclose(
        trained.model.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )


@keras.saving.register_keras_serializable("tests_inference")
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_unregistered_layers_are_named(tmp_path, monkeypatch):
    model, _, x = own_run(tmp_path, Doubled(name="twice"))
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        load_trained(tmp_path).model.predict(x, verbose=0), expected, rtol=1e-5
    )
    monkeypatch.delitem(keras.saving.get_custom_objects(), "tests_inference>Doubled")
    with pytest.raises(
        ConfigError,
        match="RUN_DIR must contain only layers of Keras.*Received: Doubled in.*finetune.load",
    ):
        load_trained(tmp_path)
    with keras.saving.custom_object_scope({"tests_inference>Doubled": Doubled}):
        assert load_trained(tmp_path).classes == ("a", "b", "c")


def rewrite(archive, change):
    """Changes the config in a .keras file."""
    with zipfile.ZipFile(archive) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    entries["config.json"] = json.dumps(change(json.loads(entries["config.json"]))).encode()
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)


def of_keras(name, module="keras.layers", **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


HOSTILE = {
    "Lambda": of_keras("Lambda"),
    "TFSMLayer": of_keras("TFSMLayer", filepath="/tmp"),
    "StringLookup": of_keras("StringLookup", vocabulary="/etc/passwd"),
    "get_file": of_keras("get_file", "keras.utils"),
    "Evil": {**of_keras("Evil", "evil"), "registered_name": "evil>Evil"},
    "function": {**of_keras("function", "os"), "config": "system", "registered_name": "system"},
    "__lambda__": {"class_name": "__lambda__", "config": {"value": ["", None, None]}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_archive_can_choose_the_code_that_runs(name, tmp_path, monkeypatch):
    def spoilt(config):
        config["config"]["layers"][1]["config"]["planted"] = [HOSTILE[name]]
        return config

    own_run(tmp_path)
    rewrite(tmp_path / "model/model.keras", spoilt)
    seal(tmp_path, source="own")  # whoever changes a model can write its digest too
    monkeypatch.setattr(keras.saving, "load_model", None)  # must not be called
    with pytest.raises(
        ConfigError, match=f"must contain only layers of Keras.*Received: {name} in"
    ):
        load_trained(tmp_path)


def test_only_the_weights_of_a_task_are_read(tmp_path):
    task, _ = image_run(tmp_path / "one")
    (tmp_path / "one/model/task.json").write_text(
        json.dumps({"module": "evil", "class_name": "Evil"})
    )
    seal(tmp_path / "one")
    images = make_inputs("resnet")
    expected = task.predict(images, verbose=0)
    np.testing.assert_allclose(
        load_trained(tmp_path / "one").model.predict(images, verbose=0), expected, rtol=1e-5
    )
    image_run(tmp_path / "two", "dinov2")
    rewrite(tmp_path / "two/model/model.keras", lambda config: HOSTILE["Lambda"])
    seal(tmp_path / "two")
    assert load_trained(tmp_path / "two").kind == "image"


def test_weights_of_another_head_are_refused(tmp_path):
    image_run(tmp_path)
    (tmp_path / "model/labels.json").write_text(
        json.dumps({"classes": ["a", "b"], "multi_label": False})
    )
    seal(tmp_path)
    with pytest.raises(
        ConfigError, match="RUN_DIR must hold weights of the model .*task.weights.h5"
    ):
        load_trained(tmp_path)
    (tmp_path / "model/labels.json").write_text("{}")
    seal(tmp_path)
    with pytest.raises(ConfigError, match="RUN_DIR must hold the label names in labels.json"):
        load_trained(tmp_path)


def test_the_global_state_of_keras_is_restored(tmp_path):
    image_run(tmp_path)
    seal(tmp_path, precision="mixed_bfloat16")
    before = np.random.get_state()[1].copy()
    trained = load_trained(tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    assert np.array_equal(before, np.random.get_state()[1])
    assert trained.model.output_dense.compute_dtype == "bfloat16"


def test_directories_without_a_trained_model_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="RUN_DIR must be the directory of a run.*hydra.run.dir"):
        load_trained(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="RUN_DIR must be the directory of a run"):
        load_trained(tmp_path / "file")
    image_run(tmp_path / "sweep/0")
    with pytest.raises(ConfigError, match="Give one of its jobs: .*sweep/0."):
        load_trained(tmp_path / "sweep")
    run = tmp_path / "sweep/0"
    for status in ("running", "failed", "interrupted"):
        seal(run, status=status)
        with pytest.raises(
            ConfigError,
            match=f"completed.*whose run is {status}. Resume it: python -m finetune resume",
        ):
            load_trained(run)
    seal(run, status="failed", source="own")
    with pytest.raises(ConfigError, match="Resume it: fit.…, resume=True."):
        load_trained(run)


def test_a_changed_model_is_refused(tmp_path):
    image_run(tmp_path / "run")
    for name, spoil in {
        "task.weights.h5": lambda file: file.write_bytes(file.read_bytes()[:-1]),
        "config.json": lambda file: file.unlink(),
    }.items():
        copy = shutil.copytree(tmp_path / "run", tmp_path / name)
        spoil(copy / "model" / name)
        with pytest.raises(
            ConfigError, match=f"where model/{name} is damaged, changed or missing.*resume"
        ):
            load_trained(copy)
    seal(tmp_path / "run", model_sha256={})
    with pytest.raises(ConfigError, match="where run.json is damaged"):
        load_trained(tmp_path / "run")

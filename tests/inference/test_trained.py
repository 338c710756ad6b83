"""Models of completed runs, loaded from their directories, and directories that are none."""

import json
import shutil
import zipfile

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones import saving
from finetune.backbones.coverage import Coverage
from finetune.backbones.families import family_of
from finetune.backbones.loading import LoadedBackbone
from finetune.errors import ConfigError
from finetune.inference.trained import load_trained
from finetune.record.files import to_json
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.runs.finetuner import FineTuner
from finetune.storage.sealed import file_digest
from finetune.tasks import heads
from tests.helpers.backbones import BACKBONES_ONLY, IMAGE_FAMILIES, make_backbone, make_inputs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "cafe", "."]
CLASSES = ["a", "b", "c"]


def seal(directory, head=None, source="directory", kind="image", precision="float32", **changes):
    """Writes the record of a completed run for what is in `directory`/model."""
    files = [path for path in (directory / "model").rglob("*") if path.is_file()]
    model = {str(path.relative_to(directory / "model")): file_digest(path) for path in files}
    record = RunRecord(
        config={"head": head or {"pooling": "auto", "dropout": 0.0}},
        overrides=[],
        seed=0,
        versions={},
        device={"kind": "cpu", "names": ["cpu"], "precision": precision, "deterministic": True},
        backbone=BackboneRecord(
            "small", source, "0", [], {"tokenizer": "BertTokenizer"} if kind == "text" else {}
        ),
        dataset=DatasetRecord("toy", "0", 3, CLASSES, {}),
        **{"status": "completed", "model_sha256": model, **changes},
    )
    (directory / "run.json").write_text(to_json(record))


def shaken(task):
    """Draws weights anew, also those that start as zeros or ones.

    Kernels have both signs: of weights that are all positive, what a normalization is given hardly
    varies, and it makes the last bits of any order of summing large.
    """
    random = np.random.default_rng(1)
    for weight in task.weights:
        if "position" in weight.path:  # of two that DINOv2 has, one is made of the other
            continue
        low = 0.1 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(random.uniform(low, 1.0 if low > 0 else 0.5, weight.shape).astype("float32"))
    return task


def write_run(directory, backbone, preprocessor, kind, pooling="auto", dropout=0.1):
    """Writes a run whose task model has random weights; returns the task model."""
    loaded = LoadedBackbone(
        "small", "directory", backbone, kind, preprocessor, "", Coverage(len(backbone.weights)), {}
    )
    task = shaken(heads.build_task(loaded, 3, pooling=pooling, dropout=dropout, seed=0))
    labels = {"classes": CLASSES, "multi_label": False}
    saving.save_task(task, directory / "model", labels, preprocessor, backbone)
    seal(directory, {"pooling": pooling, "dropout": dropout}, kind=kind)
    return task


def image_run(directory, name="resnet", pooling="auto"):
    # What EfficientNet's config does not keep is at its default.
    backbone = make_backbone(name, **({"num_features": 1280} if name == "efficientnet" else {}))
    family, size = family_of(backbone), backbone.input_shape
    size = size["images"] if isinstance(size, dict) else size
    converter = family.image_converter(
        image_size=size[1:3], scale=[0.1, 0.2, 0.3], offset=[0.1, 0.0, -0.1],
        interpolation="bicubic", antialias=True,
    )  # fmt: skip
    preprocessor = family.preprocessor(image_converter=converter)
    dropout = 0.0 if name == "mobilenet" else 0.1
    return write_run(directory, backbone, preprocessor, "image", pooling, dropout), converter


def text_run(directory, pooling="auto"):
    tokenizer = keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=4)
    return write_run(directory, make_backbone("bert"), preprocessor, "text", pooling), preprocessor


def own_run(directory, layer=None, last="softmax"):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 6)).astype("float32"), np.arange(24) % 3
    inputs = keras.Input((6,))
    h = keras.layers.Dense(4, activation="relu", kernel_regularizer="l2", name="low")(inputs)
    h = h if layer is None else layer(h)
    h = keras.ops.concatenate([h, keras.ops.relu(h[:, :2]) + 1.0], axis=1)
    model = keras.Model(inputs, keras.layers.Dense(3, last, name="out")(h), name="mine")
    tuner = FineTuner(
        model, classes=CLASSES, directory=directory, stages={"low": ["low"]}, verbose=False,
        overrides=["schedule.phases.head.epochs=1", "features.cache=never"],
    )  # fmt: skip
    return model, tuner.fit((x, y), (x, y)), x


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


def test_layers_that_nobody_registered_are_named(tmp_path, monkeypatch):
    model, _, x = own_run(tmp_path, Doubled(name="twice"))
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        load_trained(tmp_path).model.predict(x, verbose=0), expected, rtol=1e-5
    )
    monkeypatch.delitem(keras.saving.get_custom_objects(), "tests_inference>Doubled")
    with pytest.raises(
        ConfigError, match="RUN_DIR must be of layers of Keras.*Received: Doubled in.*finetune.load"
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
def test_nothing_in_an_archive_chooses_what_runs(name, tmp_path, monkeypatch):
    def spoilt(config):
        config["config"]["layers"][1]["config"]["planted"] = [HOSTILE[name]]
        return config

    own_run(tmp_path)
    rewrite(tmp_path / "model/model.keras", spoilt)
    seal(tmp_path, source="own")  # whoever changes a model can write its digest too
    monkeypatch.setattr(keras.saving, "load_model", None)  # is not even asked
    with pytest.raises(ConfigError, match=f"must be of layers of Keras.*Received: {name} in"):
        load_trained(tmp_path)


def test_of_a_task_only_weights_are_read(tmp_path):
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


def test_the_state_of_the_process_is_given_back(tmp_path):
    image_run(tmp_path)
    seal(tmp_path, precision="mixed_bfloat16")
    before = np.random.get_state()[1].copy()
    trained = load_trained(tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    assert np.array_equal(before, np.random.get_state()[1])
    assert trained.model.output_dense.compute_dtype == "bfloat16"


def test_directories_that_hold_no_trained_model(tmp_path):
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
            match=f"completed.*whose run is {status}. Go on with it: python -m finetune resume",
        ):
            load_trained(run)
    seal(run, status="failed", source="own")
    with pytest.raises(ConfigError, match="Go on with it: fit.…, resume=True."):
        load_trained(run)


def test_a_model_that_is_not_what_the_run_wrote(tmp_path):
    image_run(tmp_path / "run")
    for name, spoil in {
        "task.weights.h5": lambda file: file.write_bytes(file.read_bytes()[:-1]),
        "config.json": lambda file: file.unlink(),
    }.items():
        copy = shutil.copytree(tmp_path / "run", tmp_path / name)
        spoil(copy / "model" / name)
        with pytest.raises(
            ConfigError, match=f"where model/{name} is damaged, changed or gone.*resume"
        ):
            load_trained(copy)
    seal(tmp_path / "run", model_sha256={})
    with pytest.raises(ConfigError, match="where run.json is damaged"):
        load_trained(tmp_path / "run")

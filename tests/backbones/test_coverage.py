"""Every weight comes from the checkpoint, or the load stops and names those that did not."""

import json

import h5py
import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.backbones.coverage import coverage_of
from finetune.backbones.loading import load
from finetune.errors import ConfigError
from finetune.keras_internals import assignments
from finetune.tasks.heads import build_task
from tests.helpers import checkpoints, hostile


def drop(directory, ends):
    """Removes the tensors whose names end so, and returns how many they were."""
    file = directory / "model.safetensors"
    tensors = load_file(file)
    kept = {name: value for name, value in tensors.items() if not name.endswith(ends)}
    save_file(kept, file)
    return len(tensors) - len(kept)


POOLER = ("pooler.dense.weight", "pooler.dense.bias", "pooler.weight", "pooler.bias")


@pytest.mark.parametrize(
    ("name", "total"),
    # A block of BERT: 4 × 2 of attention, 2 × 2 of its feed-forward part, 2 norms of 2. Three
    # embeddings and their norm; the pooler's 2. A factorised embedding has 2 more.
    [
        ("bert", 16 + 5 + 2),
        ("albert", 16 + 5 + 2 + 2),
        ("distilbert", 16 + 2 + 2),
        ("roberta", 16 + 2 + 2),
        ("xlm_roberta", 16 + 2 + 2),
        ("vit", 16 + 2 + 2 + 2),
        ("vgg11", 8 * 2),
    ],
)
def test_all_weights_of_a_directory_are_counted(tmp_path, name, total):
    directory, _ = getattr(checkpoints, name)(tmp_path)
    coverage = load(path=directory).coverage
    assert (coverage.loaded, coverage.total, coverage.absent) == (total, total, ())


def test_weights_of_a_preset_are_counted(preset):
    # Stem, two blocks of two and a shortcut: 6 convolutions, each with 4 weights of its norm.
    coverage = load(path=preset).coverage
    assert (coverage.loaded, coverage.total) == (6 * 5, 6 * 5)
    assert load(path=preset, load_weights=False).coverage.loaded == 0


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_masked_language_model_has_no_pooler(tmp_path, name):
    directory, _ = getattr(checkpoints, name)(tmp_path)
    assert drop(directory, POOLER) == 2
    loaded = load(path=directory)
    assert loaded.coverage.absent == ("pooled_dense/kernel", "pooled_dense/bias")
    for pooling in ("avg", "cls", "max"):
        task = build_task(loaded, 2, pooling=pooling, dropout=0.0, seed=0)
        assert not any("pooled_dense" in weight.path for weight in task.weights)
    with pytest.raises(
        ConfigError,
        match=r"head\.pooling must use.*auto for .*lack pooled_dense/kernel, pooled_dense/bias.*"
        r"head\.pooling=avg",
    ):
        build_task(loaded, 2, pooling="auto", dropout=0.0, seed=0)


def test_random_weights_need_no_pooler(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    loaded = load(path=directory, load_weights=False)
    assert build_task(loaded, 2, pooling="auto", dropout=0.0, seed=0).num_classes == 2


def test_heads_of_other_tasks_are_left_in_the_file(tmp_path):
    """As BertForPreTraining and DataParallel name their tensors."""
    directory, written = checkpoints.bert(tmp_path, prefix="module.bert.")
    file = directory / "model.safetensors"
    more = {
        "module.cls.predictions.bias": np.zeros(12, "float32"),
        "module.cls.predictions.transform.dense.weight": np.zeros((8, 8), "float32"),
        "module.cls.seq_relationship.weight": np.zeros((2, 8), "float32"),
    }
    save_file({**load_file(file), **more}, file)
    loaded = load(path=directory)
    assert loaded.coverage.absent == ()
    for ours, theirs in zip(loaded.backbone.weights, written.weights, strict=True):
        assert np.array_equal(checkpoints.array(ours), checkpoints.array(theirs))


@pytest.mark.parametrize("name", ["bert", "roberta", "albert"])
def test_norms_by_their_old_names(tmp_path, name):
    directory, written = getattr(checkpoints, name)(tmp_path)
    file = directory / "model.safetensors"
    old = {
        key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): value
        for key, value in load_file(file).items()
    }
    save_file(old, file)
    loaded = load(path=directory)
    assert loaded.coverage.absent == ()
    norm = next(w for w in loaded.backbone.weights if w.path.endswith("gamma"))
    same = next(w for w in written.weights if w.path.endswith("gamma"))
    assert np.array_equal(checkpoints.array(norm), checkpoints.array(same))


def test_weights_in_half_precision(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    directory, written = checkpoints.vit(tmp_path)
    file = directory / "model.safetensors"
    half = {key: value.astype(ml_dtypes.bfloat16) for key, value in load_file(file).items()}
    save_file(half, file)
    weight = load(path=directory).backbone.weights[0]
    expected = checkpoints.array(written.weights[0]).astype(ml_dtypes.bfloat16).astype("float32")
    assert np.array_equal(checkpoints.array(weight), expected)


def test_a_tensor_that_is_not_there(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    drop(directory, ("attention.self.query.weight", "attention.self.query.bias"))
    with pytest.raises(
        ConfigError,
        match=r"must contain every weight.*21 of 23 weights were loaded; it lacks .*query/kernel, "
        r".*query/bias\. Copy the model again",
    ):
        load(path=directory)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path, value):
    directory, _ = checkpoints.bert(tmp_path)
    file = directory / "model.safetensors"
    tensors = load_file(file)
    tensors = {name: np.array(tensor) for name, tensor in tensors.items()}
    next(tensor for name, tensor in tensors.items() if name.endswith("query.bias"))[0] = value
    save_file(tensors, file)
    with pytest.raises(
        ConfigError, match=r"must contain finite weights.*NaN or infinity in .*query/bias\. Copy"
    ):
        load(path=directory)


def test_a_config_of_another_model_than_the_weights(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    file = directory / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"max_position_embeddings": 99}))
    with pytest.raises(
        ConfigError,
        match=r"\(ValueError: position_embedding/embeddings has the shape \(\d+, 8\), but "
        r"\(99, 8\) in config.json\)\. Copy config.json and the weights again",
    ):
        load(path=directory)


def test_a_tensor_that_a_converter_reads_by_itself(tmp_path):
    directory, _ = checkpoints.xlm_roberta(tmp_path)
    drop(directory, ("token_type_embeddings.weight",))
    with pytest.raises(ConfigError, match="must contain every weight.*no tensor .*token_type"):
        load(path=directory)


def test_a_preset_that_lacks_a_layer(tmp_path):
    directory = hostile.bert(tmp_path)
    with h5py.File(directory / "model.weights.h5", "a") as file:
        del file["layers/position_embedding/vars/0"]
    with pytest.raises(
        ConfigError, match=r"22 of 23 weights were loaded; it lacks position_embedding/embeddings"
    ):
        load(path=directory)


def test_assignments_are_seen_and_let_be():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    before = keras.Variable.assign
    with assignments() as assigned:
        layer.kernel.assign(np.ones((3, 2)))
    assert keras.Variable.assign is before
    coverage = coverage_of(layer, assigned)
    assert (coverage.loaded, coverage.absent) == (1, (layer.bias.path,))
    assert np.array_equal(checkpoints.array(layer.kernel), np.ones((3, 2)))


@pytest.mark.parametrize("made", [keras_hub.models.ViTBackbone, keras_hub.models.DeiTBackbone])
def test_positions_are_of_one_image_size(tmp_path, made):
    made((16, 16, 3), 8, 1, 2, 8, 8).save_to_preset(str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"^dataset\.image_size must be 16 for .*Received: 24 \(the checkpoint has one position",
    ):
        load(path=tmp_path, image_size=24)

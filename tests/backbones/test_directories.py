import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.backbones.directories import recognise
from finetune.backbones.families import FAMILIES, family_of
from finetune.backbones.loading import load
from finetune.errors import ConfigError
from tests.helpers import checkpoints


def same_weights(loaded, written, tolerance=0.0):
    assert len(loaded.backbone.weights) == len(written.weights)
    for ours, theirs in zip(loaded.backbone.weights, written.weights, strict=True):
        np.testing.assert_allclose(
            checkpoints.array(ours), checkpoints.array(theirs), atol=tolerance, rtol=0
        )


@pytest.mark.parametrize("prefix", ["", "whole"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("albert", "text"),
        ("bert", "text"),
        ("distilbert", "text"),
        ("roberta", "text"),
        ("xlm_roberta", "text"),
        ("vit", "image"),
    ],
)
def test_hugging_face(tmp_path, name, kind, prefix):
    """With the prefix of a task model and without, as the bare model is saved."""
    prefix = f"{name.removeprefix('xlm_')}." if prefix else ""
    directory, written = getattr(checkpoints, name)(tmp_path / name, prefix)
    loaded = load(path=directory)
    assert (loaded.name, loaded.source, loaded.kind) == (name, "directory", kind)
    assert type(loaded.backbone) is type(written)
    # RoBERTa's positions are written less the token type that is added again.
    same_weights(loaded, written, 1e-6 if "roberta" in name else 0)
    examples = ["the cat"] if kind == "text" else np.zeros((1, 20, 20, 3), "uint8")
    loaded.backbone(loaded.preprocessor(examples))


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_timm(tmp_path, name):
    directory, written = getattr(checkpoints, name)(tmp_path / name)
    loaded = load(path=directory, image_size=32)
    assert (loaded.source, loaded.image_size) == ("directory", (32, 32))
    same_weights(loaded, written)


def test_timm_inside_transformers(tmp_path):
    directory, _ = checkpoints.resnet18(tmp_path, model_type="timm_wrapper")
    assert recognise(directory, "backbone.path").format == "timm"


def test_settings_that_kerashub_leaves_out(tmp_path):
    directory, _ = checkpoints.bert(tmp_path / "bert")
    assert load(path=directory).backbone.dropout == 0.25
    directory, _ = checkpoints.vit(tmp_path / "vit")
    assert load(path=directory).backbone.layer_norm_epsilon == 1e-12


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "relu"), ("position_embedding_type", "relative_key")]
)
def test_variants_that_kerashub_computes_otherwise(tmp_path, key, value):
    directory, _ = checkpoints.bert(tmp_path, **{key: value})
    with pytest.raises(ConfigError, match=f"whose {key} is one that KerasHub.*Received: {value}"):
        load(path=directory)


@pytest.mark.parametrize("prefix", ["", "distilbert."])
def test_shards(tmp_path, prefix):
    directory, written = checkpoints.distilbert(tmp_path, prefix)
    tensors = list(load_file(directory / "model.safetensors").items())
    (directory / "model.safetensors").unlink()
    halves = {"model-1.safetensors": tensors[:5], "model-2.safetensors": tensors[5:]}
    names = {}
    for file, part in halves.items():
        save_file({k: np.ascontiguousarray(v) for k, v in part}, directory / file)
        names |= {name: file for name, _ in part}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    same_weights(load(path=directory), written)
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"without model-2.safetensors\."):
        load(path=directory)
    index.write_text(json.dumps({"weight_map": []}))
    with pytest.raises(
        ConfigError, match=r"without model.safetensors.index.json with a weight_map"
    ):
        load(path=directory)
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(ConfigError, match=r"without \.\./model.safetensors\."):
        load(path=directory)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.kind == "text"], ids=lambda f: f.name)
def test_text_presets_of_kerashub(tmp_path, family):
    arguments = {"intermediate_dim": 8, "hidden_dim": 8, "num_layers": 1}
    if family.name != "f_net":
        arguments["num_heads"] = 2
    if family.name == "albert":
        arguments["embedding_dim"] = 4
    arguments |= {"head_size": 4} if family.name == "roformer_v2" else {"max_sequence_length": 12}
    backbone = family.backbone(20, **arguments)
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"without tokenizer.json, assets/tokenizer/vocabulary"):
        load(path=tmp_path)
    tokenizer(family, tmp_path).save_to_preset(str(tmp_path))
    loaded = load(path=tmp_path)
    assert (loaded.kind, loaded.image_size) == ("text", None)
    assert family_of(loaded.backbone) == family
    assert type(loaded.preprocessor) is family.classifier.preprocessor_cls
    assert loaded.preprocessor.sequence_length == (512 if family.name == "roformer_v2" else 12)
    assert load(path=tmp_path, sequence_length=7).preprocessing["sequence_length"] == 7
    loaded.backbone(loaded.preprocessor(["the cat sat"]))


def tokenizer(family, folder):
    cls = family.preprocessor.tokenizer_cls
    if family.tokenizer == "wordpiece":
        return cls(vocabulary=checkpoints.WORDS)
    if family.tokenizer == "bpe":
        directory, _ = checkpoints.roberta(folder / "roberta")
        return cls(str(directory / "vocab.json"), str(directory / "merges.txt"))
    return cls(proto=checkpoints.sentencepiece())


def test_image_size_of_a_text_backbone(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    with pytest.raises(ConfigError, match="^dataset.image_size must be null for the text backbone"):
        load(path=directory, image_size=32)


@pytest.mark.parametrize("length", [2, 17])
def test_sequence_length_that_does_not_fit(tmp_path, length):
    directory, _ = checkpoints.bert(tmp_path)
    with pytest.raises(ConfigError, match=rf"^dataset.sequence_length must be 3\.\.16.*{length}"):
        load(path=directory, sequence_length=length)


def test_image_size_that_does_not_fit(tmp_path):
    directory, _ = checkpoints.vit(tmp_path)
    with pytest.raises(ConfigError, match=r"^dataset.image_size must be 16 for .*Received: 32 \("):
        load(path=directory, image_size=32)


def test_no_directory(tmp_path):
    with pytest.raises(ConfigError, match=r"^backbone.path must be .*\(no such directory\)"):
        load(path=tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match=r"without config.json, model.weights.h5 or model.safetensors\."
    ):
        load(path=tmp_path)


def test_missing_weights(preset, tmp_path):
    shutil.copy(preset / "config.json", tmp_path)
    with pytest.raises(ConfigError, match=r"KerasHub model.*without model.weights.h5\."):
        load(path=tmp_path)
    assert load(path=tmp_path, load_weights=False).source == "directory"


@pytest.mark.parametrize(
    ("name", "gone", "match"),
    [
        ("bert", ["model.safetensors"], r"Hugging Face model.*without model.safetensors\."),
        ("bert", ["vocab.txt"], r"without vocab.txt or tokenizer.json\."),
        ("bert", ["tokenizer_config.json"], r"without tokenizer_config.json \(it says"),
        ("distilbert", ["tokenizer.json"], r"without vocab.txt or tokenizer.json\."),
        ("roberta", ["merges.txt"], r"without merges.txt or tokenizer.json\."),
        (
            "roberta",
            ["vocab.json", "merges.txt", "model.safetensors"],
            r"without model.safetensors, vocab.json and merges.txt or tokenizer.json\.",
        ),
        ("vit", ["preprocessor_config.json"], r"without preprocessor_config.json\."),
    ],
)
def test_missing_files(tmp_path, name, gone, match):
    directory, _ = getattr(checkpoints, name)(tmp_path)
    for file in gone:
        (directory / file).unlink()
    with pytest.raises(ConfigError, match=f"^backbone.path must be a complete.*{match}"):
        load(path=directory)


def test_pickled_weights_are_not_opened(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(
        ConfigError,
        match="pytorch_model.bin is not opened, because reading it can run code: convert it to model.safe",
    ):
        load(path=directory)


@pytest.mark.parametrize("model_type", ["albert", "xlm-roberta"])
def test_missing_sentencepiece(tmp_path, model_type):
    checkpoints.write(tmp_path, {"model_type": model_type}, {})
    needed = {"albert": "spiece.model", "xlm-roberta": "sentencepiece.bpe.model"}[model_type]
    with pytest.raises(ConfigError, match=rf"without {needed}\."):
        load(path=tmp_path)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("{", "must contain a JSON mapping in config.json.*is not JSON"),
        ("[]", "must contain a JSON mapping in config.json.*not a mapping"),
        ({}, "contains none of registered_name, model_type, architecture"),
        ({"registered_name": "Functional"}, "registered_name names.*Received: Functional. Valid: "),
        ({"registered_name": "keras_hub>GPT2Backbone"}, "Received: keras_hub>GPT2Backbone"),
        ({"registered_name": "keras_hub>BertBackbones"}, r"Did you mean keras_hub>BertBackbone\?"),
        (
            {"model_type": "vitt"},
            r"model_type names.*Valid: deit, .*xlm-roberta. Did you mean vit\?",
        ),
        ({"architecture": "resnet19"}, r"architecture names.*Did you mean resnet\d+\?"),
        (
            {"architecture": "resnet18", "registered_name": "keras_hub>ResNetBackbone"},
            "in one format.*with registered_name in config.json and architecture in config.json",
        ),
    ],
)
def test_config_that_is_no_use(tmp_path, config, match):
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=match):
        load(path=tmp_path, load_weights=False)


def test_weights_in_two_formats(tmp_path):
    directory, _ = checkpoints.bert(tmp_path)
    (directory / "model.weights.h5").touch()
    with pytest.raises(ConfigError, match="with model.weights.h5 and model.safetensors"):
        load(path=directory)


def test_no_code_from_a_directory(preset, tmp_path):
    shutil.copytree(preset, tmp_path, dirs_exist_ok=True)
    harmful = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    for name, match in (
        ("image_converter.json", "in image_converter.json, keras_hub>ResNetImage.*Lambda"),
        ("config.json", "in config.json, keras_hub>ResNetBackbone and no other.*Lambda"),
    ):
        content = json.loads((preset / name).read_text())
        content["config"]["scale"] = [harmful]
        (tmp_path / name).write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=match):
            load(path=tmp_path)
    (tmp_path / "config.json").write_text((preset / "config.json").read_text())
    (tmp_path / "image_converter.json").write_text(json.dumps({"registered_name": "Lambda"}))
    with pytest.raises(ConfigError, match="Received: Lambda in"):
        load(path=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_name": "Lambda"},
        {"compile_config": {"loss": {"class_name": "Lambda", "config": {}}}},
        {"config": {"image_shape": [16, 16, 3], "activation": {"class_name": "Lambda"}}},
    ],
)
def test_no_code_beside_the_registered_name(preset, tmp_path, changes):
    shutil.copytree(preset, tmp_path, dirs_exist_ok=True)
    content = json.loads((preset / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **changes}))
    with pytest.raises(ConfigError, match="in config.json, .*no other class. Received: Lambda in"):
        load(path=tmp_path)


@pytest.mark.parametrize("changes", [{"config": []}, {"config": {"image_shape": 3}}])
def test_config_of_another_shape(preset, tmp_path, changes):
    shutil.copytree(preset, tmp_path, dirs_exist_ok=True)
    content = json.loads((preset / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **changes}))
    with pytest.raises(ConfigError, match="KerasHub model that KerasHub can load"):
        load(path=tmp_path)


def test_no_code_from_a_tokenizer(tmp_path):
    keras_hub.models.BertBackbone(12, 1, 2, 8, 8).save_to_preset(str(tmp_path))
    keras_hub.models.BertTokenizer(vocabulary=checkpoints.WORDS).save_to_preset(str(tmp_path))
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "registered_name": "Other"}))
    with pytest.raises(ConfigError, match="keras_hub>BertTokenizer and no other.*Received: Other"):
        load(path=tmp_path)


def test_every_listed_model_is_one_that_kerashub_converts():
    from keras_hub.src.utils.timm.preset_loader import TimmPresetLoader
    from keras_hub.src.utils.transformers.preset_loader import TransformersPresetLoader

    for family in FAMILIES:
        assert issubclass(family.backbone, keras.Model)
        assert (family.classifier is None) == family.name.startswith("dino")
        for name in family.model_types:
            loader = TransformersPresetLoader("", {"model_type": name})
            assert loader.check_backbone_class() is family.backbone
        for name in family.architectures:
            loader = TimmPresetLoader("", {"architecture": name})
            assert loader.check_backbone_class() is family.backbone
            assert loader.converter.convert_backbone_config({"architecture": name})

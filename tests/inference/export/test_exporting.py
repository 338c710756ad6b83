"""Models of every kind, exported to every format, compute the run's probabilities or are refused."""

import json

import keras
import numpy as np
import pytest

from finetune.backbones.loading import load
from finetune.cli import main
from finetune.datasets.readers import ImageReader
from finetune.errors import ConfigError, FinetuneError
from finetune.inference.examples import Example
from finetune.inference.export import exporting, runtime
from finetune.inference.export.exporting import export_run, output_directory
from finetune.inference.export.formats import FORMATS
from finetune.inference.export.parity import expected_probabilities
from finetune.inference.export.samples import Samples
from finetune.inference.export.writing import write
from finetune.inference.predicting import Predictor
from finetune.inference.trained import load_trained
from finetune.runs.finetuner import FineTuner
from tests.helpers import checkpoints
from tests.helpers.trained_runs import image_run, own_run, seal, text_run, write_run

pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")
pytestmark = [
    # Raised inside tf2onnx, onnx and the interpreter.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]


@pytest.fixture
def here(monkeypatch):
    """Runs artifacts in this process: TensorFlow's import takes seconds."""

    def measure(target, artifact, batches, alone=True):
        return runtime.probabilities(target.name, artifact, batches)

    monkeypatch.setattr(exporting, "measure", measure)


def export(run, name, output=None):
    target = FORMATS[name]
    directory = output_directory(run, target, output)
    return export_run(run, target, directory), directory


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_model(name, tmp_path, here):
    image_run(tmp_path, "resnet")  # its converter is bicubic and antialiased
    done, directory = export(tmp_path, name)
    assert directory == tmp_path / "export" / name
    written = json.loads((directory / "export.json").read_text())
    assert written["parity"]["samples"] == 32 and written["parity"]["max_difference"] < 1e-4
    assert "synthetic" in written["parity"]["source"]
    (port,) = written["interface"]["inputs"]
    exact = name in ("keras", "saved_model")
    assert port["shape"] == ([None, None, None, 3] if exact else [None, 16, 16, 3])
    assert (port["dtype"], port["range"]) == ("float32", [0, 255])
    assert port["axes"] == ["batch", "height", "width", "channels"]
    steps = written["interface"]["preprocessing"]
    assert [step["step"] for step in steps] == [
        "decode",
        "orient",
        "transparency",
        "resize",
        "scale",
    ]
    assert [step["inside"] for step in steps] == [False, False, False, exact, True]
    assert steps[3] == {
        "step": "resize", "inside": exact, "height": 16, "width": 16, "aspect_ratio": "crop",
        "interpolation": "bicubic", "antialias": True,
    }  # fmt: skip
    before = written["interface"]["before"]
    assert before.startswith("decode the first frame to RGB") and "with white" in before
    assert ("bicubic, with antialiasing" in before) is not exact
    assert [port["name"] for port in written["interface"]["outputs"]] == ["probabilities", "logits"]
    labels = json.loads((directory / "labels.json").read_text())
    assert labels["classes"] == ["a", "b", "c"]
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert found == {*written["files"], "export.json"}
    assert done.num_bytes == sum((directory / file).stat().st_size for file in written["files"])


@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_the_artifact_resizes_images_as_the_run_does(name, tmp_path, here):
    image_run(tmp_path, "vit")
    _, directory = export(tmp_path, name)
    trained = load_trained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (33, 20, 3), dtype="uint8")
    reader = ImageReader(trained.image_size, trained.image_converter)
    logits = trained.model.predict(reader.prepared(image)[None], verbose=0)
    batch = {"images": image[None].astype("float32")}
    found = runtime.probabilities(name, directory / FORMATS[name].artifact, [batch])
    np.testing.assert_allclose(found, keras.ops.softmax(logits), atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "dinov2"])
@pytest.mark.parametrize("name", ["keras", "onnx", "litert"])
def test_an_image_transformer(family, name, tmp_path, here):
    image_run(tmp_path, family)  # its exact GELU has no operation in tf2onnx
    assert export(tmp_path, name)[0].parity.agreement == 32


@pytest.mark.parametrize(
    ("name", "pooling"), [*((name, "auto") for name in FORMATS), ("keras", "avg")]
)
def test_a_text_model(name, pooling, tmp_path, here):
    text_run(tmp_path, pooling)
    done, directory = export(tmp_path, name)
    names = {port["name"] for port in done.interface["inputs"]}
    if name == "saved_model":
        assert names == {"texts"} and not (directory / "tokenizer").exists()
        assert "tensorflow_text" in done.interface["before"]
        return
    assert names == {"token_ids", "padding_mask", "segment_ids"}
    kinds = {port["name"]: port["dtype"] for port in done.interface["inputs"]}
    assert kinds == {"token_ids": "int32", "padding_mask": "bool", "segment_ids": "int32"}
    assert all(port["axes"] == ["batch", "tokens"] for port in done.interface["inputs"])
    assert done.interface["preprocessing"] == [
        {
            "step": "tokenize", "inside": False, "sequence_length": 4, "files": "tokenizer",
            "makes": kinds,
        }
    ]  # fmt: skip
    assert "tokenize to at most 4 tokens" in done.interface["before"]
    import keras_hub

    place = str(directory / "tokenizer")
    made = keras_hub.models.TextClassifierPreprocessor.from_preset(place)(["the cat sat"])
    expected = load_trained(tmp_path).preprocessor(["the cat sat"])
    np.testing.assert_array_equal(made["token_ids"], expected["token_ids"])


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "mixed_float16") for name in FORMATS), ("onnx", "mixed_bfloat16")],
)
def test_a_model_that_was_trained_in_mixed_precision(name, precision, tmp_path, here):
    image_run(tmp_path, "vit")
    seal(tmp_path, precision=precision)
    parity = export(tmp_path, name)[0].parity
    assert (parity.agreement, parity.tolerance) == (32, 0.02)


@pytest.mark.parametrize("make", [checkpoints.roberta, checkpoints.xlm_roberta])
def test_a_saved_model_holds_tokenizers_with_tables(make, tmp_path, here):
    place, _ = make(tmp_path / "checkpoint")
    loaded = load(path=place)
    write_run(tmp_path / "run", loaded.backbone, loaded.preprocessor, "text")
    assert export(tmp_path / "run", "saved_model")[0].parity.agreement == 32


def test_texts_are_tokenized_as_in_training(tmp_path):
    place, _ = checkpoints.roberta(tmp_path / "checkpoint")
    loaded = load(path=place)
    write_run(tmp_path / "run", loaded.backbone, loaded.preprocessor, "text")
    trained = load_trained(tmp_path / "run")
    texts = ["a b", "Ġ ab", "é"]  # "Ġ" and "é" are outside the vocabulary
    found = expected_probabilities(trained, Samples("some", texts))
    asked = [Example("text", text) for text in texts]
    (answers,) = Predictor(trained, 3)(asked)
    np.testing.assert_allclose(found, [answer.probabilities for answer in answers], atol=1e-9)


def two_inputs(directory, named):
    """Writes a run of a model that takes numbers and indices, by name or by position."""
    a, b = keras.Input((4,), name="y"), keras.Input((3,), dtype="int32", name="z")
    h = keras.layers.Flatten()(keras.layers.Embedding(2, 2, name="low")(b))
    h = keras.layers.Concatenate()([a, h])
    model = keras.Model(
        {"z": b, "y": a} if named else [b, a], keras.layers.Dense(2, name="out")(h), name="two"
    )
    random = np.random.default_rng(0)
    x = (random.integers(0, 2, (12, 3)).astype("int32"), random.normal(size=(12, 4)))
    data = ({"z": x[0], "y": x[1]} if named else x, np.arange(12) % 2)
    tuner = FineTuner(
        model, directory=directory, verbose=False, stages={"low": ["low"]},
        overrides=["schedule.phases.head.epochs=1", "features.cache=never"],
    )  # fmt: skip
    tuner.fit(data, data)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_model_of_the_users_own_with_two_inputs(name, named, tmp_path, here):
    two_inputs(tmp_path, named)
    done, _ = export(tmp_path, name)
    ports = {port["name"]: port["dtype"] for port in done.interface["inputs"]}
    names = ("z", "y") if named else ("input_0", "input_1")
    assert ports == dict(zip(names, ("int32", "float32"), strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_of_the_users_own(name, tmp_path, here):
    own_run(tmp_path)
    done, _ = export(tmp_path, name)
    assert [port["name"] for port in done.interface["inputs"]] == ["inputs"]
    assert [port["name"] for port in done.interface["outputs"]] == ["probabilities"]  # a softmax


def test_a_model_with_registered_layers_is_checked_in_this_process(tmp_path):
    @keras.saving.register_keras_serializable("export_test")
    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    own_run(tmp_path, Doubled())
    assert export(tmp_path, "keras")[0].parity.agreement == 32
    assert export(tmp_path, "onnx")[0].parity.agreement == 32


@pytest.mark.parametrize(
    ("name", "missing"), [("onnx", "ONNX has no Erfinv"), ("litert", "LiteRT has no Erfinv")]
)
def test_a_model_that_a_format_cannot_hold_is_refused_with_the_reason(name, missing, tmp_path):
    image_run(tmp_path, "resnet")
    trained = load_trained(tmp_path)
    inputs = keras.Input((3,), name="inputs")
    model = keras.Model(inputs, {"probabilities": keras.ops.erfinv(inputs)})
    words = (
        f"--format must be a format that can hold this model. Received: {name} for small "
        rf"\({missing}\). Use --format saved_model"
    )
    with pytest.raises(ConfigError, match=words):
        write(trained, model, FORMATS[name], tmp_path)


def test_an_artifact_with_other_probabilities_is_discarded(tmp_path, monkeypatch, here):
    image_run(tmp_path, "resnet")
    _, directory = export(tmp_path, "onnx")
    _, again = export(tmp_path, "onnx")  # an earlier export is replaced
    assert again == directory
    before = (directory / "export.json").read_bytes()

    monkeypatch.setattr(exporting, "measure", lambda *given: np.full((32, 3), 1 / 3, "float32"))
    with pytest.raises(FinetuneError, match="must compute the run's probabilities within 0.0001"):
        export(tmp_path, "onnx")
    with pytest.raises(FinetuneError, match="within 0.0001"):
        export(tmp_path, "litert")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["onnx"]
    assert (directory / "export.json").read_bytes() == before


def test_an_artifact_that_does_not_run_is_discarded(tmp_path):
    from finetune.inference.export.parity import measure

    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(
        FinetuneError, match="must run in onnxruntime. Received: .*The export was discarded"
    ):
        measure(FORMATS["onnx"], tmp_path / "model.onnx", [{"images": np.zeros((1, 2))}])


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_run_is_exported_and_checked_in_a_separate_process(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["experiment=resnet_probe", "dataset.max_samples=40", "schedule.phases.head.epochs=1"]
    assert main(["--quiet", *short, "hydra.run.dir=run"]) == 0
    assert main(["export", "run", "--format", name, "--output", "out"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "32 samples (test split of digits)" in shown
    assert "the same classes on 32 of 32" in shown and FORMATS[name].artifact in shown
    assert (tmp_path / "out" / "labels.json").is_file()
    assert main(["export", "run", "--format", name, "--output", "run"]) == 2
    assert "--output must be a new directory" in capsys.readouterr().err

"""The scripts of the documentation compute the predictions of `predict` in each runtime."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune.cli import main
from finetune.inference.export import exporting, runtime
from finetune.inference.export.exporting import export_run, output_directory
from finetune.inference.export.formats import FORMATS
from tests.helpers.trained_runs import image_run, own_run, text_run

pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the scripts close no files
]
PAGE = (Path(__file__).resolve().parents[3] / "docs/using_the_model.md").read_text(encoding="utf-8")
SCRIPTS = {
    (output_format, kind): code
    for output_format, kind, code in re.findall(
        r"^`(\w+)`, (images|texts)[^\n]*:\n\n```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL
    )
}


def test_there_is_a_script_for_each_runtime_and_kind():
    assert set(SCRIPTS) == {
        (output_format, kind) for output_format in FORMATS for kind in ("images", "texts")
    }
    for code in SCRIPTS.values():
        assert len([line for line in code.splitlines() if line.strip()]) <= 12


@pytest.fixture
def here(monkeypatch):
    def measure(target, artifact, batches, alone=True):
        return runtime.probabilities(target.name, artifact, batches)

    monkeypatch.setattr(exporting, "measure", measure)


def exported(run, output_format):
    directory = output_directory(run, FORMATS[output_format], None)
    export_run(run, FORMATS[output_format], directory)
    return directory


def said(output_format, kind, directory, argument, monkeypatch):
    """Returns label and probability that a script prints."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "argv", ["script.py", str(argument)])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(SCRIPTS[output_format, kind], f"{output_format}, {kind}", "exec"), {})
    label, probability = out.getvalue().split()
    return label, float(probability)


def predicted(run, argument, capsys):
    assert main(["predict", str(run), str(argument), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    return row["label"], row["probability"]


@pytest.mark.slow
@pytest.mark.parametrize("output_format", FORMATS)
def test_a_script_for_images(output_format, tmp_path, here, monkeypatch, capsys):
    """A wide, partly transparent image with an EXIF orientation that turns it on its side."""
    image_run(tmp_path / "run", "resnet")
    values = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype="uint8")
    image = Image.fromarray(values).resize((310, 240), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    label, probability = predicted(tmp_path / "run", tmp_path / "a.png", capsys)
    directory = exported(tmp_path / "run", output_format)
    found = said(output_format, "images", directory, tmp_path / "a.png", monkeypatch)
    inside = output_format in ("keras", "saved_model")
    assert found == (label, pytest.approx(probability, abs=1e-4 if inside else 1e-2))


@pytest.mark.slow
@pytest.mark.parametrize("output_format", FORMATS)
def test_a_script_for_texts(output_format, tmp_path, here, monkeypatch, capsys):
    text_run(tmp_path / "run")
    expected = predicted(tmp_path / "run", "the cat sat", capsys)
    directory = exported(tmp_path / "run", output_format)
    label, probability = said(output_format, "texts", directory, "the cat sat", monkeypatch)
    assert (label, probability) == (expected[0], pytest.approx(expected[1], abs=1e-4))


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda run: image_run(run, "resnet"), {"images": ["batch", 16, 16, 3]}),
        (
            text_run,
            dict.fromkeys(("token_ids", "padding_mask", "segment_ids"), ["batch", "tokens"]),
        ),
        (own_run, {"inputs": ["batch", 6]}),
    ],
)
def test_axes_and_ports_of_onnx_have_names(make, axes, tmp_path, here):
    import onnx

    make(tmp_path / "run")
    graph = onnx.load(exported(tmp_path / "run", "onnx") / "model.onnx").graph

    def of(ports):
        return {
            port.name: [
                side.dim_param or side.dim_value for side in port.type.tensor_type.shape.dim
            ]
            for port in ports
        }

    assert of(graph.input) == axes
    assert of(graph.output)["probabilities"] == ["batch", 3]
    if "padding_mask" in axes:
        kinds = {port.name: port.type.tensor_type.elem_type for port in graph.input}
        assert kinds["padding_mask"] == onnx.TensorProto.BOOL

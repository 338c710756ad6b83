"""Errors of `export` before it builds anything."""

import json
import sys

import pytest

from finetune.cli import main
from finetune.errors import ConfigError, FinetuneError
from finetune.inference.export.formats import FORMATS, format_of
from finetune.record.files import to_json
from tests.helpers.records import make_record


def test_an_unknown_format_lists_the_valid_ones():
    words = "--format must be a format. Received: onx. Valid: keras, saved_model, onnx, litert. Did"
    with pytest.raises(ConfigError, match=words):
        format_of("onx")


@pytest.mark.parametrize(
    ("name", "module"),
    [("onnx", "tf2onnx"), ("onnx", "onnxruntime"), ("litert", "ai_edge_litert")],
)
def test_a_format_without_its_packages_names_the_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    words = (
        rf"Received: {name}, without {module}\. Install them: .*pip install -c constraints\.txt -e "
        rf"'\.\[{name}\]', or scripts/environment\.py {name}"
    )
    with pytest.raises(ConfigError, match=words):
        format_of(name)


def refused(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_an_output_that_is_not_an_export_is_refused_before_tensorflow_is_imported(tmp_path, capsys):
    assert "Write python -m finetune export RUN_DIR --format" in refused(capsys)
    assert "Received: a b" in refused(capsys, "a", "b")
    assert "--opset" in refused(capsys, tmp_path, "--format", "onnx", "--opset")
    assert "--format must be one of keras, saved_model" in refused(capsys, tmp_path)
    assert "Valid: keras, saved_model" in refused(capsys, tmp_path, "--format=tflite")
    assert "--format must have a value" in refused(capsys, tmp_path, "--format")
    assert "which holds run.json" in refused(capsys, tmp_path, "--format", "keras")


def test_an_unfinished_run_is_refused(tmp_path, capsys):
    record = make_record()
    record.status = "interrupted"
    (tmp_path / "run.json").write_text(to_json(record))
    message = refused(capsys, tmp_path, "--format=keras")
    assert "must hold a completed run" in message and "is interrupted" in message


def test_only_an_earlier_export_is_replaced(tmp_path):
    from finetune.inference.export.exporting import output_directory

    target = FORMATS["keras"]
    assert output_directory(tmp_path, target, None) == tmp_path / "export" / "keras"
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    assert output_directory(tmp_path, target, earlier) == earlier  # it is empty
    (earlier / "model.keras").write_text("")
    with pytest.raises(ConfigError, match="--output must be a new directory"):
        output_directory(tmp_path, target, earlier)
    manifest = {"files": {"model.keras": {}}, "parity": {}}
    (earlier / "export.json").write_text(json.dumps(manifest))
    assert output_directory(tmp_path, target, earlier) == earlier
    (earlier / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="Received: .*earlier"):
        output_directory(tmp_path, target, earlier)
    (tmp_path / "link").symlink_to(earlier)
    for place in (tmp_path / "link", earlier / "thesis.txt"):
        with pytest.raises(ConfigError, match="Choose another directory"):
            output_directory(tmp_path, target, place)


def test_probabilities_that_differ_are_refused():
    import numpy as np

    from finetune.inference.export.parity import compare

    expected = np.array([[0.5, 0.4999, 0.0001], [0.1, 0.9, 0.0]], np.float32)
    near = expected + np.float32(5e-5) * np.array([[-1, 2, 0], [0, 0, 0]], np.float32)
    with pytest.raises(
        FinetuneError,
        match="within 5e-05. Received: a difference of 0.0001, with the same prediction on 1 of 2",
    ):
        compare(expected, near, False, 5e-5, "here")
    parity = compare(expected, near, False, 1.1e-4, "here")
    assert (parity.samples, parity.agreement) == (2, 1)  # the other sample is a tie
    assert parity.max_difference == pytest.approx(1e-4, rel=1e-2)
    with pytest.raises(
        FinetuneError, match=r"must compute \(2, 3\) probabilities. Received: \(1, 3\)"
    ):
        compare(expected, near[:1], False, 1.0, "here")
    with pytest.raises(FinetuneError, match="of which 83% are finite"):
        compare(expected, np.where(expected == 0.9, np.nan, expected), False, 1.0, "here")
    with pytest.raises(FinetuneError, match="a difference of nan"):
        compare(np.where(expected == 0.9, np.nan, expected), expected, False, 1.0, "here")
    multi_label = np.array([[0.9, 0.4], [0.6, 0.2]], np.float32)
    assert compare(multi_label, multi_label, True, 1e-4, "here").agreement == 2
    other = np.array([[0.9, 0.6], [0.6, 0.2]], np.float32)
    with pytest.raises(
        FinetuneError, match="a difference of 0.2, with the same prediction on 1 of 2"
    ):
        compare(multi_label, other, True, 0.05, "here")

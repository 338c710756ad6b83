"""The `predict` command: its output, its errors, and when it imports TensorFlow."""

import csv
import io
import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from finetune.cli import main
from finetune.inference.examples import Failure, Prediction, examples_of
from finetune.inference.writing import make_writer
from tests.helpers.trained_runs import image_run, own_run, seal, text_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of images, texts and arrays, and two images."""
    folder = tmp_path_factory.mktemp("runs")
    image_run(folder / "image")
    text_run(folder / "text")
    own_run(folder / "array")
    (folder / "files/.hidden").mkdir(parents=True)
    (folder / "files/deep/er").mkdir(parents=True)
    for index, name in enumerate(("b.png", "deep/er/a.JPG", "a.png", ".hidden/x.png")):
        Image.new("RGB", (9, 9), (80 * index, 0, 9)).save(folder / "files" / name)
    (folder / "files/notes.txt").write_text("no image")
    (folder / "empty").mkdir()
    (folder / "note.txt").write_text("the cat\n")
    return folder


def typed(monkeypatch, content=b""):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def here(runs, monkeypatch):
    monkeypatch.chdir(runs)
    typed(monkeypatch)


def test_folders_and_files_in_order_as_a_table(here, capsys):
    assert main(["predict", "image", "files/b.png", "files"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "files/b.png",
        "files/a.png",
        "files/b.png",
        "files/deep/er/a.JPG",
    ]
    assert lines[0].split()[1:] == lines[2].split()[1:]
    assert sum(float(cell.rstrip("%")) for cell in lines[0].split()[2::2]) == pytest.approx(
        100, abs=0.02
    )


def test_json_is_one_array_and_jsonl_an_object_a_line(here, capsys):
    command = ["predict", "image", "files", "--top-k=2", "--batch-size=1", "--format"]
    assert main([*command, "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main([*command, "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [row["source"] for row in rows] == ["files/a.png", "files/b.png", "files/deep/er/a.JPG"]
    for row in rows:
        assert list(row) == ["source", "label", "probability", "top"]
        assert len(row["top"]) == 2 and row["top"][0] == {
            "label": row["label"],
            "probability": row["probability"],
        }


def test_json_is_an_array_even_if_all_files_are_bad(here, runs, capsys):
    (runs / "bad.png").write_bytes(b"no image")
    for files, found in ((["gone.png"], []), (["bad.png"], []), (["bad.png", "files/a.png"], [1])):
        assert main(["predict", "image", *files, "--format", "json"]) == 1
        assert len(json.loads(capsys.readouterr().out)) == sum(found)


def test_texts_as_arguments(here, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    (runs / "the cats").write_text("cats\n")  # a file of that name takes precedence
    given = ["the cat sat", "cats.", "the cats", "and/or it sat", "... the cat"]
    assert main(["predict", "text", *given, "--format=json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["source"], row["text"]) for row in rows] == [
        ("argument:1", "the cat sat"),
        ("argument:2", "cats."),
        ("the cats:1", "cats"),
        ("argument:4", "and/or it sat"),
        ("argument:5", "... the cat"),
    ]
    lines = "\n".join(given[:2] + ["cats"] + given[3:])
    typed(monkeypatch, lines.encode())
    assert main(["predict", "text", "-", "--format=json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [row["top"] for row in read] == [row["top"] for row in rows]


@pytest.mark.parametrize(
    "path", ["./reviews", "reviews/today", "notes.md", "~/a review", "gone.png", "C:\\reviews"]
)
def test_a_missing_path_is_not_taken_for_a_text(here, capsys, path):
    assert main(["predict", "text", path]) == 2
    assert (
        f"Received: {path} (it looks like a path, but there is no such file). To pass other texts"
        in (capsys.readouterr().err)
    )


def test_a_missing_text_file_is_named_and_the_other_examples_are_predicted(here, capsys):
    assert main(["predict", "text", "gone.txt", "the cat", "--format=csv"]) == 1
    out, err = capsys.readouterr()
    assert "gone.txt: no such file" in err and out.count("argument:2") == 1


@pytest.mark.parametrize("run", ["image", "array"])
def test_other_models_take_no_texts(here, capsys, run):
    assert main(["predict", run, "It was great"]) == 2
    error = capsys.readouterr().err
    assert "It was great (there is no such file, and the model takes no texts)" in error


def test_texts_of_lines_tables_and_stdin(here, runs, monkeypatch, capsys):
    (runs / "table.csv").write_text('text,label\n"the cat, sat",a\n,b\ncats,c\n')
    typed(monkeypatch, "the cafe\n\nNUL \0\n\xff\n".encode("latin-1"))
    assert (
        main(["predict", "text", "note.txt", "-", "table.csv", "--format=csv", "--batch-size", "2"])
        == 1
    )
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["source"] for row in rows] == [
        "note.txt:1",
        "stdin:1",
        "table.csv:2",
        "table.csv:4",
    ]
    assert list(rows[0]) == [
        "source",
        "label",
        "probability",
        "label_2",
        "probability_2",
        "label_3",
        "probability_3",
    ]
    assert err.splitlines() == [
        "error: stdin:3: with a NUL character", "error: stdin:4: not UTF-8", "error: table.csv:3: without a text",
    ]  # fmt: skip


def test_file_names_on_stdin(here, monkeypatch, capsys):
    typed(monkeypatch, b"files/a.png\ngone.png\nfiles/b.png\n")
    assert main(["predict", "image", "-"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["files/a.png", "files/b.png"]
    assert err == "error: gone.png: no such file, or a broken link\n"


def test_a_model_of_the_users_own_takes_arrays(here, runs, capsys):
    np.save(runs / "x.npy", np.zeros((2, 6), "float32"))
    assert main(["predict", "array", "x.npy", "--format", "jsonl"]) == 0
    assert [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()] == [
        "x.npy:1",
        "x.npy:2",
    ]


WRONG = {
    "nothing": ([], "predict must be given a run directory"),
    "no run": (["nowhere", "x.png"], "RUN_DIR must be the directory of a run"),
    "no file": (["image"], "FILE must be given: the model takes images and folders"),
    "text for images": (
        ["image", "note.txt"],
        "FILE must be of the kind that the model takes: images",
    ),
    "image for texts": (["text", "files/a.png"], r"takes: files of texts \(.txt, .csv"),
    "folder for texts": (["text", "files"], r"takes: files of texts"),
    "image for arrays": (["array", "files/a.png"], r"takes: arrays \(.npy\)"),
    "format": (
        ["image", "files", "--format", "xml"],
        "Received: xml. Valid: table, json, jsonl, csv",
    ),
    "top-k 0": (["image", "files", "--top-k", "0"], r"--top-k must be 1..3 .*Received: 0"),
    "top-k 4": (["image", "files", "--top-k", "4"], r"--top-k must be 1..3 .*Received: 4"),
    "top-k": (["image", "files", "--top-k"], "--top-k must have a value"),
    "twice": (["image", "files", "--top-k=1", "--top-k=2"], "--top-k must be given once"),
    "batch": (
        ["image", "files", "--batch-size", "many"],
        r"--batch-size must be 1..65536.*Received: many",
    ),
    "device": (["image", "files", "--device", "tpu"], "Received: tpu. Valid: auto, cpu, gpu"),
    "option": (["image", "files", "--topk", "2"], "Did you mean --top-k?"),
    "empty stdin": (["image", "-"], "FILE must hold at least one example"),
    "empty texts": (["text", "-"], "FILE must hold at least one example"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_exit_2_before_anything_is_loaded(name, here, capsys, monkeypatch):
    arguments, message = WRONG[name]
    monkeypatch.setattr("finetune.commands.predicting.import_quietly", None)
    assert main(["predict", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)


def test_no_model_is_loaded_if_no_file_can_be_read(here, runs, capsys, monkeypatch):
    (runs / "loop").mkdir(exist_ok=True)
    if not (runs / "loop/again").exists():
        (runs / "loop/again").symlink_to("..", target_is_directory=True)
    monkeypatch.setattr("finetune.commands.predicting.import_quietly", None)
    assert main(["predict", "image", "gone.png", "empty", "no\0name.png"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: gone.png: no such file, or a broken link",
        "error: empty: the folder holds no image",
        r"error: no\x00name.png: not a file name",
    ]
    found = list(examples_of("image", ["loop"], io.BytesIO()))
    assert [failure.reason for failure in found if isinstance(failure, Failure)] == [
        "a link to a folder that contains it"
    ]
    assert main(["predict", "text", "missing.csv", "missing.txt"]) == 1
    assert "missing.csv" in capsys.readouterr().err


def test_tensorflow_is_not_imported_before_there_is_an_example(runs):
    script = (
        "import sys; from finetune.cli import main\n"
        f"code = main(['predict', {str(runs / 'image')!r}, 'gone.png'])\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1, result.stderr


def test_a_closed_pipe_ends_quietly(runs):
    python, files = shlex.quote(sys.executable), f"{runs}/files"
    command = (
        f"{python} -m finetune predict {runs}/image {files} {files} --batch-size 1 | head -n 1"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stdout.startswith(f"{files}/a.png")
    assert result.stderr == ""


MULTI_LABEL = Prediction("a\x1b[31m.png", np.asarray([0.9, 0.2, 0.6]))


def test_a_multi_label_model_shows_every_class(here, runs, capsys):
    copy = shutil.copytree(runs / "image", runs / "multi_label", dirs_exist_ok=True)
    (copy / "model/labels.json").write_text(
        json.dumps({"classes": ["a", "b", "c"], "multi_label": True})
    )
    seal(copy)
    assert main(["predict", "multi_label", "files/a.png", "--format", "csv"]) == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header[:2] == ["source", "labels"] and len(row) == 2 + 2 * 3
    values = dict(zip(row[2::2], map(float, row[3::2]), strict=True))
    assert row[1] == "|".join(name for name, value in values.items() if value > 0.5)


def test_labels_above_one_half_are_marked():
    classes = ["x", "y", "z\u202e"]

    def lines(output_format, top_k=3, terminal=False):
        return make_writer(output_format, classes, True, top_k, terminal).lines([MULTI_LABEL])

    assert lines("table") == "a\\x1b[31m.png  * x 90.00%  * z\\u202e 60.00%    y 20.00%\n"
    assert json.loads(lines("json", 1)) == {
        "source": "a\x1b[31m.png", "labels": ["x", "z\u202e"], "top": [{"label": "x", "probability": 0.9}],
    }  # fmt: skip
    assert lines("json").isascii()  # no control characters
    assert lines("csv", 1) == "a\x1b[31m.png,x|z\u202e,x,0.9\n"
    assert lines("csv", 1, True) == "a\\x1b[31m.png,x|z\\u202e,x,0.9\n"
    writer = make_writer("csv", classes, True, 1, False)
    assert writer.header() == "source,labels,label,probability\n"


def test_a_batch_of_bad_examples_adds_nothing_to_the_table():
    writer = make_writer("table", ["a", "b", "c"], True, 1, False)
    assert writer.lines([MULTI_LABEL]) == "a\\x1b[31m.png  * a 90.00%\n"
    assert writer.lines([]) == ""


def test_names_that_are_not_utf_8_are_escaped():
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    row = [Prediction(name, np.asarray([0.75, 0.25]), "é")]
    assert json.loads(make_writer("json", ["é", "b"], False, 1, False).lines(row))["source"] == name
    for output_format in ("csv", "table"):
        assert (
            make_writer(output_format, ["é", "b"], False, 1, False)
            .lines(row)
            .startswith("caf\\udce9.png")
        )

"""Names from data are shown and stored as text, whatever they try with terminal or markup."""

import csv
import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from finetune.cli import main
from finetune.datasets.names import plain
from finetune.printable import printable
from finetune.reporting.terminal.console import ConsoleListener, show_check, show_plan
from finetune.reporting.trackers.tensorboard import TensorBoardTracker
from tests.helpers.standing_in import listening
from tests.record.test_schema import make_record
from tests.reporting.test_reporting import play

NAMES = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b]8;;file:x\x1b\\link": r"\x1b]8;;file:x\x1b\link",
    "\x9b2J": r"\x9b2J",  # CSI in one character
    "a\x08\x08b": r"a\x08\x08b",
    "a\rb\nc\td\x0be\x00": r"a\rb\nc\td\x0be\x00",
    "a\u2028b\u2029c\x85": r"a\u2028b\u2029c\x85",
    "gnp\u202eexe": r"gnp\u202eexe",
    "\u2066x\u2069\u200e": r"\u2066x\u2069\u200e",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "\udcff\udcfe": r"\udcff\udcfe",
    "[red]markup[/red]": "[red]markup[/red]",
    "[/]": "[/]",
    "[link=file:x]y[/link]": "[link=file:x]y[/link]",
    "[@click=app.bell]y": "[@click=app.bell]y",
    ":bomb:": ":bomb:",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "../../etc/passwd": "../../etc/passwd",
    "=cmd()": "=cmd()",
    "%s{}": "%s{}",
    "back\\slash": "back\\slash",
    "katze 猫 кот قطة בית": "katze 猫 кот قطة בית",
    "नमस्‍ते 👩‍🔬": "नमस्‍ते 👩‍🔬",  # joined
    "wide\u3000space": "wide\u3000space",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_text_is_made_printable(name):
    assert printable(name) == NAMES[name]
    assert printable(printable(name)) == printable(name)
    printable(name).encode()  # every terminal takes it


def hostile_record(name):
    record = make_record()
    record.backbone.name = record.backbone.source = record.dataset.name = name
    record.device["names"] = [name]
    record.backbone.preprocessing = {"interpolation": name}
    record.test_per_class = [{"name": name, "support": 3, "f1": 0.5}]
    record.test["macro_f1"] = 0.5
    for phase in record.phases:
        phase.name = phase.policy = name
        phase.features = {"cached": True, "cut": name, "samples_extracted": 3, "seconds": 0.1}
        phase.stages[0]["name"] = name
        phase.learning_rates = {name: 0.1}
    return record


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_run_shows_names_as_text(tmp_path, monkeypatch, terminal, name):
    record = hostile_record(name)
    monkeypatch.setattr("tests.reporting.test_reporting.make_record", lambda: record)
    out = io.StringIO()
    console = Console(file=out, width=400, force_terminal=terminal, no_color=True)
    listener = ConsoleListener(console, tmp_path / name.replace("/", "_").replace("\0", ""), 1, [3])
    play(listener)
    listener.extracting(name, 1, 2)
    show_plan(console, record)
    show_check(console, record)
    text = out.getvalue()
    text.encode()
    shown = text.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert shown.count(NAMES[name]) >= 10
    if not terminal:
        assert all(each == "\n" or printable(each) == each for each in text)
    assert "\x1b]" not in text and "\x07" not in text and "\u202e" not in text


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_tensorboard_takes_any_name(tmp_path, monkeypatch, name):
    record = hostile_record(name)
    monkeypatch.setattr("tests.reporting.test_reporting.make_record", lambda: record)
    play(listening({"TensorBoard": TensorBoardTracker(tmp_path / "tensorboard")}, tmp_path))
    (path,) = (tmp_path / "tensorboard").glob("events.*")  # beside train and validation
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert f"learning_rate/{NAMES[name]}" in tags


def test_a_real_run_on_a_folder_of_hostile_names(tmp_path, monkeypatch, capsys):
    """File names are bytes on disk, some of them no text at all; names of classes must be text."""
    folder = os.fsencode(tmp_path / "images")
    texts = [n for n in NAMES if not any(c in "/\0" or "\ud800" <= c <= "\udfff" for c in n)]
    names = [os.fsencode(name) for name in texts[:11]]
    numbers = np.random.default_rng(0)
    for name in names:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for number in range(3):
            pixels = numbers.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            with open(os.path.join(folder, name, b"\xff\x1b[2J\n%d.png" % number), "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
    arguments = ["dataset=image_folder", "dataset.path=images", "dataset.image_size=32"]
    arguments += ["schedule.phases.head.epochs=1", "hydra.run.dir=run"]
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    shown, stderr = capsys.readouterr()
    assert code == 0, stderr
    assert all(each == "\n" or printable(each) == each for each in shown)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    labels = json.loads((tmp_path / "run" / "model" / "labels.json").read_text())
    expected = sorted(map(plain, texts[:11]))  # without white space and the invisible at their ends
    assert sorted(record["dataset"]["classes"]) == sorted(labels["classes"]) == expected
    with (tmp_path / "run" / "splits.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 3 * len(expected)
    logged = (tmp_path / "run" / "finetune.log").read_text()
    assert "\x1b" not in logged
    assert {each.name for each in tmp_path.iterdir()} == {"images", "run"}

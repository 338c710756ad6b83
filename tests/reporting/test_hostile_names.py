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
from tests.helpers.hostile_names import NAMES
from tests.helpers.listeners import play
from tests.helpers.records import make_record
from tests.helpers.standing_in import listening


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
def test_a_run_shows_names_as_text(tmp_path, terminal, name):
    record = hostile_record(name)
    out = io.StringIO()
    console = Console(file=out, width=400, force_terminal=terminal, no_color=True)
    listener = ConsoleListener(console, tmp_path / name.replace("/", "_").replace("\0", ""), 1, [3])
    play(listener, record)
    listener.extracting(name, 1, 2)
    show_plan(console, record)
    show_check(console, record)
    text = out.getvalue()
    text.encode()
    shown = text.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert shown.count(NAMES[name]) >= 10
    if not terminal:
        assert all(character == "\n" or printable(character) == character for character in text)
    assert "\x1b]" not in text and "\x07" not in text and "\u202e" not in text


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_tensorboard_takes_any_name(tmp_path, name):
    record = hostile_record(name)
    play(listening({"TensorBoard": TensorBoardTracker(tmp_path / "tensorboard")}, tmp_path), record)
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
    assert all(character == "\n" or printable(character) == character for character in shown)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    labels = json.loads((tmp_path / "run" / "model" / "labels.json").read_text())
    expected = sorted(map(plain, texts[:11]))  # without white space and the invisible at their ends
    assert sorted(record["dataset"]["classes"]) == sorted(labels["classes"]) == expected
    with (tmp_path / "run" / "splits.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 3 * len(expected)
    logged = (tmp_path / "run" / "finetune.log").read_text()
    assert "\x1b" not in logged
    assert {path.name for path in tmp_path.iterdir()} == {"images", "run"}

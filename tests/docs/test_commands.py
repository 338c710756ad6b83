"""Every command that the documentation shows is run, shrunk to seconds, or says here why not."""

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from finetune.cli import VERBS, main
from finetune.commands.arguments import split_overrides
from finetune.config.compose import compose_config
from finetune.config.read import read
from tests.helpers.interruptions import stopping_at
from tests.helpers.shown_commands import ROOT, commands, python_blocks, split

# What is not run, by its words: why. Anything else that is shown must run.
NOT_RUN = {
    "pip install": "changes the environment that runs this test",
    "scripts/test": "is what runs this test",
    "scripts/environment.py": "changes the environment; tests/scripts/test_environment.py",
    "scripts/benchmark": "measures for minutes",
    "scripts/torture": "kills runs for minutes",
    "scripts/docs": "makes an environment; tests/docs/test_site.py builds the site",
    "tensorboard": "serves until it is stopped",
    "python -m finetune experiment=moons": "needs a package; end_to_end/test_plugin.py installs it",
    "hf upload": "needs a network and an account",
}
# What is composed and checked as far as its config goes: why it is not trained.
COMPOSED = {
    "resnet50_flowers": "downloads a backbone and a dataset",
    "efficientnet_pets": "downloads a backbone and a dataset",
    "backbone=efficientnet_b0": "downloads a backbone",
    "resnet_50_imagenet": "downloads a backbone and a dataset",
    "hf://": "downloads a backbone, of a made-up name",
    "kaggle://": "downloads a backbone, of a made-up name",
    "dataset=tfds": "downloads a dataset",
    "minilm": "90 MB of weights of an extra; end_to_end/test_every_kind_of_data.py trains a BERT",
    "runtime.device=gpu": "needs a GPU",
}
# How each verb is shrunk; one that takes a run directory finds a copy of this run where the page has it.
WITH_OVERRIDES = ("train", "check", "inspect")
WITH_RUN = {
    "resume": "stopped",
    **dict.fromkeys(("evaluate", "predict", "export", "report", "compare"), "completed"),
}
AS_THEY_ARE = ("catalog",)
RUN = Path("outputs/DATE/TIME")
STARTS = (
    ("python", "-m", "finetune"),
    (".venv/bin/python", "-m", "finetune"),
    ("scripts/run",),
    ("finetune",),
)
SMALL = ["dataset.max_samples=40", "dataset.batch_size=16"]
SHOWN = {command.words: command for command in commands()}
WRITTEN_TO = ("--picture", "--output")
# Keys that make no other kind of run: of commands that differ in them alone, one is trained.
VALUES = ("seed", "batch_size", "learning_rate", "epochs")


def arguments_of(words):
    """Returns what `finetune` is given; None for another program."""
    starts = [start for start in STARTS if words[: len(start)] == start]
    return list(words[len(starts[0]) :]) if starts else None


def once_each():
    """Returns the commands that are shown, one of those that give `finetune` the same arguments."""
    by_arguments = {}
    for words in SHOWN:
        given = arguments_of(words)
        by_arguments.setdefault(words if given is None else ("finetune", *given), words)
    return list(by_arguments.values())


def kind_of(arguments):
    """Returns the arguments without those that set a value of `VALUES`."""
    keys = [argument.partition("=")[0].rpartition(".")[2] for argument in arguments]
    return tuple(a for a, key in zip(arguments, keys, strict=True) if key not in VALUES)


def only_built():
    """Returns the arguments of commands that would train as an earlier one does, but for values."""
    trained, found = set(), set()
    for words in once_each():
        arguments = arguments_of(words)
        if arguments is not None and verb_of(arguments) == "train" and "-m" not in arguments:
            known = kind_of(arguments) in trained
            (found if known else trained).add(tuple(arguments) if known else kind_of(arguments))
    return found


def why_not_run(words):
    line = " ".join(words)
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), None)


def verb_of(arguments):
    return arguments[0] if arguments and arguments[0] in VERBS else "train"


def shorter(overrides):
    """Returns what makes the phases of a config one epoch each, and a range one depth."""
    config = read(compose_config(overrides))
    phases = config.schedule.phases
    short = [f"schedule.phases.{name}.epochs=1" for name in phases]
    if config.schedule.from_depth is not None:
        depth = config.schedule.from_depth
        short += [f"schedule.to_depth={depth}", "schedule.epochs_per_phase=1"]
    return short


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with what a reader would have: images, tables, arrays."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    rows = []
    for number in range(60):
        name = ("daisy", "tulip", "rose")[number % 3]
        path = folder / "flowers" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 80, (12, 12, 3))
        pixels[..., number % 3] += 150
        Image.fromarray(pixels.astype("uint8")).save(path)
        rows.append(f"{path},{name}" + ("|plant" if number % 2 else ""))
    (folder / "several").mkdir()
    (folder / "several" / "train.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    texts = [f"text {number},{'good' if number % 2 else 'bad'}" for number in range(40)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *texts]) + "\n")
    x, y = random.integers(0, 255, (40, 8, 8), "uint8"), np.arange(40) % 2
    np.savez(folder / "shapes.npz", x=x, y=y, classes=["circle", "square"])
    return folder


def with_data(arguments, folder):
    """Puts what the test has made where a command has a place of the reader's own."""
    table = "several" if any("label_separator" in word for word in arguments) else "reviews.csv"
    places = {"image_folder": "flowers", "table": table, "arrays": "shapes.npz"}
    starts = ("dataset=", "dataset.name=")
    source = next((word.split("=")[1] for word in arguments if word.startswith(starts)), None)
    replaced = []
    for word in arguments:
        if word.startswith("dataset.path="):
            word = f"dataset.path={folder / places[source]}"
        if word == "backbone.path=DIR":
            word = f"backbone.path={ROOT}/finetune/backbones/presets/resnet_mini"
        replaced.append(word)
    return replaced


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """Runs by name: `stopped` in its second step, `completed` on the flowers."""
    folder = tmp_path_factory.mktemp("runs")
    with stopping_at(2):
        full = ["schedule=full", "schedule.phases.full.epochs=2", "features.cache=never"]
        assert main([*full, *SMALL, f"hydra.run.dir={folder}/stopped"]) == 130
    flowers = ["dataset=image_folder", f"dataset.path={data}/flowers"]
    probe = ["schedule.phases.head.epochs=1", *flowers, "dataset.batch_size=16"]
    assert main([*probe, f"hydra.run.dir={folder}/completed"]) == 0
    return folder


def lay_out(run, data, here):
    """Puts a run and the reader's own files where the pages have them; returns the run directory."""
    directory = shutil.copytree(run, here / RUN)
    for copy in (RUN.with_name("OTHER_TIME"), Path("multirun/DATE/TIME/0")):
        shutil.copytree(run, here / copy)
    (here / "RUN_DIR").symlink_to(directory)
    for name in ("daisy", "tulip"):
        shutil.copy(min((data / "flowers" / name).iterdir()), here / f"{name}.png")
    (here / "flowers").symlink_to(data / "flowers")
    return directory


ONLY_BUILT = only_built()


@pytest.mark.slow
@pytest.mark.parametrize("words", once_each(), ids=shlex.join)
def test_a_command_does_what_the_page_says(words, data, runs, tmp_path, monkeypatch):
    arguments = arguments_of(words)
    reason = why_not_run(words)
    if arguments is None or reason is not None:
        assert reason, f"{SHOWN[words]} must run, or be in NOT_RUN with the reason"
        return
    monkeypatch.chdir(tmp_path)
    verb = verb_of(arguments)
    if verb in WITH_RUN:
        directory = lay_out(runs / WITH_RUN[verb], data, tmp_path)
        assert main(with_data(arguments, data)) == 0
        assert json.loads((directory / "run.json").read_text())["status"] == "completed"
    elif verb in AS_THEY_ARE:
        monkeypatch.setenv("FINETUNE_FEATURES_DIR", str(tmp_path / "store"))
        assert main(arguments) == 0
    else:
        assert verb in WITH_OVERRIDES, f"say how {verb} is shrunk"
        start = ["inspect"] if tuple(arguments) in ONLY_BUILT else []
        run_small([*start, *with_data(arguments, data)], tmp_path)
    for option, place in pairwise(arguments):
        assert option not in WRITTEN_TO or (tmp_path / place).exists(), f"{option} {place}"


def two_jobs(arguments):
    """Yields the arguments of a sweep with two values of its first swept key, one of the others."""
    first = True
    for word in arguments:
        key, equals, values = word.partition("=")
        if equals and re.fullmatch(r"[^{}\[\],]+(,[^{}\[\],]+)+", values):
            kept = values.split(",")[: 2 if first else 1]
            word, first = f"{key}={','.join(kept)}", False
        yield word


def run_small(arguments, folder):
    """Runs a command that takes overrides, or composes what cannot be had here."""
    rest = arguments[1:] if arguments and arguments[0] in VERBS else arguments
    if "--picture" in rest:
        rest = rest[: rest.index("--picture")]
    overrides, _, flags = split_overrides(rest)
    if any(part in override for part in COMPOSED for override in overrides):
        config = read(compose_config(overrides))
        assert config.schedule.phases
        return
    if "-m" in flags:
        arguments = [*two_jobs(arguments)]
        short = shorter([override for override in overrides if "," not in override])
    else:
        short = shorter(overrides)
    directory = f"hydra.sweep.dir={folder}/run" if "-m" in flags else f"hydra.run.dir={folder}/run"
    assert main([*arguments, *short, *SMALL, directory]) == 0
    records = [json.loads(file.read_text()) for file in Path(folder).rglob("run.json")]
    assert all(record["status"] == "completed" for record in records)
    trains = verb_of(arguments) == "train" and "--cfg" not in flags
    assert bool(records) == trains


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), python_blocks(), ids=lambda value: value[:20])
def test_python_runs(page, code, data, runs, tmp_path, monkeypatch):
    import finetune

    monkeypatch.chdir(tmp_path)
    lay_out(runs / "completed", data, tmp_path)
    before = set(tmp_path.rglob("*"))
    random = np.random.default_rng(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(4, name="low")(inputs)
    x, y = random.normal(size=(20, 4)).astype("float32"), np.arange(20) % 2
    names = {
        "finetune": finetune,
        "numpy": np,
        "model": keras.Model(inputs, keras.layers.Dense(2, name="out")(hidden)),
        **{"x": x, "y": y, "x_val": x, "y_val": y, "x2": x, "y2": y},
    }
    given = {*names, "__builtins__"}
    exec(compile(code, page, "exec"), names)
    if page == "docs/plugins.md":  # a block defines an entry, which tests of plug-ins use
        assert any(callable(names[name]) for name in names.keys() - given)
        return
    assert set(tmp_path.rglob("*")) - before or "run" in names, "a block trains, or loads a run"


def test_the_documentation_shows_commands_and_new_ones_would_be_found():
    assert len(SHOWN) > 35
    assert {"README.md", "docs/gpu.md", "docs/recipes.md"} <= {
        command.page for command in commands()
    }
    script = "a 'b c' \\\n  d  # note\npip install x && python -m finetune …"
    expected = [("a", "b c", "d"), ("pip", "install", "x"), ("python", "-m", "finetune")]
    assert split(script) == expected
    assert why_not_run(("rm", "-r", "outputs")) is None
    assert ("experiment=resnet_freeze", "schedule.phases.head.epochs=5") in ONLY_BUILT
    assert ("experiment=resnet_freeze",) not in ONLY_BUILT
    run = {tuple(arguments_of(words)) for words in once_each() if arguments_of(words) is not None}
    assert run == {tuple(arguments_of(w)) for w in SHOWN if arguments_of(w) is not None}


def test_what_is_excused_is_shown():
    lines = [" ".join(words) for words in SHOWN]
    for start in set(NOT_RUN):
        assert any(line.startswith(start) for line in lines), start
    for part in COMPOSED:
        assert any(part in line for line in lines), part

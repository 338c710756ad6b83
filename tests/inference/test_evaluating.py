"""`evaluate` reproduces the metrics of the run's test split, and matches other data by label names."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from finetune.cli import main
from finetune.datasets.assemble import object_array
from finetune.datasets.dataset import Split
from finetune.datasets.measured import matched
from finetune.errors import ConfigError
from finetune.record.files import read_json
from tests.helpers.trained_runs import own_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
COLORS = {"blue": (9, 9, 200), "green": (9, 200, 9), "red": (200, 9, 9)}


def draw(file, color, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    noise = random.integers(-9, 10, (12, 12, 3)) + np.asarray(color)
    Image.fromarray(noise.clip(0, 255).astype("uint8")).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on ten images of each of three colors, with a tenth held out for the test split."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name, color in COLORS.items():
        for seed in range(10):
            draw(folder / "data" / name / f"{seed}.png", color, seed)
    arguments = [
        "dataset=image_folder", f"dataset.path={folder}/data", "dataset.batch_size=8",
        "schedule.phases.head.epochs=3", f"features.dir={folder}/features",
        f"hydra.run.dir={folder}/run",
    ]  # fmt: skip
    assert main(["--quiet", *arguments]) == 0
    return folder, read_json(folder / "run/run.json")


def evaluated(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_test_split_gives_the_recorded_metrics(folder, capsys):
    folder, record = folder

    def written():
        files = set((folder / "run").rglob("*")) - {folder / "run/finetune.log"}  # of this process
        return sorted((path, path.stat().st_mtime_ns) for path in files)

    before = written()
    found = evaluated(capsys, folder / "run")
    assert found["metrics"] == pytest.approx(record.test, abs=1e-6)
    assert found["per_class"] == record.test_per_class
    assert (found["split"], found["examples"], found["data_of_the_run"]) == ("test", 3, True)
    validation = record.phases[-1].metrics["validation"]
    found = evaluated(capsys, folder / "run", "split=validation", "dataset.batch_size=1")
    assert found["metrics"]["loss"] == pytest.approx(validation["loss"], abs=1e-6)
    assert found["metrics"]["accuracy"] == validation["accuracy"]
    assert written() == before


def test_a_folder_without_splits_is_evaluated_whole_with_labels_by_name(folder, capsys):
    folder, _ = folder
    for seed in range(4):  # the only and so first class of these data is the last one of the model
        draw(folder / "reds/red" / f"{seed}.png", COLORS["red"], 50 + seed)
    found = evaluated(capsys, folder / "run", f"dataset.path={folder}/reds")
    assert (found["split"], found["examples"], found["data_of_the_run"]) == (None, 4, None)
    assert [entry["support"] for entry in found["per_class"]] == [0, 0, 4]
    whole = evaluated(capsys, folder / "run", f"dataset.path={folder}/data")
    assert whole["examples"] == 30
    held_out = evaluated(capsys, folder / "run", f"dataset.path={folder}/data", "split=test")
    assert held_out["examples"] == 3 and held_out["data_of_the_run"]


def test_training_examples_are_counted_by_their_content(folder, capsys):
    folder, record = folder
    trained = record.dataset.splits["train"]
    assert main(["evaluate", str(folder / "run"), "split=train"]) == 0
    said = capsys.readouterr()
    assert f"warning: the model was trained on all {trained} examples of this" in said.err
    assert f"all {trained} examples of this evaluation" not in said.out  # one warning
    assert evaluated(capsys, folder / "run")["trained_on"] == 0
    for number, file in enumerate(sorted((folder / "data/red").iterdir())):  # under other names
        target = folder / "again/red" / f"x{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    draw(folder / "again/blue/new.png", COLORS["blue"], 77)
    assert main(["evaluate", str(folder / "run"), f"dataset.path={folder}/again"]) == 0
    said = capsys.readouterr()
    assert "splits: all is again/" in said.err
    assert "the model was trained on 8 of the 11 examples" in said.err
    splits = folder / "run/splits.csv"
    kept = splits.read_text()
    splits.write_text("split,source\ntrain,a\n")  # as older runs wrote it
    assert evaluated(capsys, folder / "run")["trained_on"] is None
    splits.write_text(kept)


def test_of_a_folder_with_splits_the_test_split_is_evaluated(folder, capsys):
    folder, _ = folder
    for name, color in COLORS.items():
        draw(folder / "parts/test" / name / "0.png", color, 90)
    found = evaluated(capsys, folder / "run", f"dataset.path={folder}/parts")
    assert (found["split"], found["examples"]) == ("test", 3)
    draw(folder / "only/train/red/0.png", COLORS["red"], 1)
    assert main(["evaluate", str(folder / "run"), f"dataset.path={folder}/only"]) == 2
    assert "without a folder test; it has train" in capsys.readouterr().err


def test_tables_and_arrays_are_evaluated_too(folder, capsys):
    folder, _ = folder
    (folder / "table.csv").write_text("image,label\ndata/red/0.png,red\ndata/blue/1.png,blue\n")
    found = evaluated(
        capsys, folder / "run", "dataset.name=table", f"dataset.path={folder}/table.csv"
    )
    assert (found["dataset"], found["split"], found["examples"]) == ("table.csv", None, 2)
    assert [entry["support"] for entry in found["per_class"]] == [1, 0, 1]
    (folder / "tables").mkdir()
    (folder / "tables/test.csv").write_text(f"image,label\n{folder}/data/red/0.png,red\n")
    found = evaluated(capsys, folder / "run", "dataset.name=table", f"dataset.path={folder}/tables")
    assert (found["split"], found["examples"]) == ("test", 1)
    images = np.zeros((3, 12, 12, 3), "uint8")
    np.savez(folder / "x.npz", x=images, y=[1, 1, 0], classes=["green", "red"])
    found = evaluated(capsys, folder / "run", "dataset.name=arrays", f"dataset.path={folder}/x.npz")
    assert [entry["support"] for entry in found["per_class"]] == [0, 1, 2]
    np.savez(folder / "y.npz", x_test=images, y_test=[1, 1, 0])
    assert (
        main(
            ["evaluate", str(folder / "run"), "dataset.name=arrays", f"dataset.path={folder}/y.npz"]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert (
        "Received: 0 (1 examples, the first is x_test:3), 1 (2 examples, the first is x_test:1)"
        in error
    )


def test_labels_that_the_model_does_not_know_are_named(folder, capsys):
    folder, _ = folder
    for name in ("red", "grean", "black"):
        draw(folder / "strange" / name / "0.png", (9, 9, 9), 1)
    assert main(["evaluate", str(folder / "run"), f"dataset.path={folder}/strange"]) == 2
    error = capsys.readouterr().err
    assert "dataset must have only labels that are classes of the model" in error
    assert "black (1 examples, the first is black/0.png)" in error
    assert "grean (1 examples, the first is grean/0.png; did you mean green?)" in error


def test_bad_images_are_named_or_left_out(folder, capsys):
    folder, _ = folder
    draw(folder / "bad/red/0.png", COLORS["red"], 1)
    (folder / "bad/red/1.png").write_bytes((folder / "bad/red/0.png").read_bytes()[:90])
    arguments = [folder / "run", f"dataset.path={folder}/bad"]
    assert main(["evaluate", *map(str, arguments)]) == 2
    assert "red/1.png" in capsys.readouterr().err
    found = evaluated(capsys, *arguments, "dataset.on_bad_sample=skip")
    assert (found["examples"], found["left_out"]) == (1, 1)


def test_the_table_and_the_csv_format(folder, capsys):
    folder, record = folder
    assert main(["evaluate", str(folder / "run"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "split test: 3, the data of the run" in shown
    assert f"{record.test['accuracy']:.2%}" in shown
    assert shown.splitlines()[-3].split()[0] == "blue"
    assert main(["evaluate", str(folder / "run"), "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    values = {(row["class"], row["metric"]): float(row["value"]) for row in rows}
    assert values["", "accuracy"] == record.test["accuracy"] and values["red", "support"] == 1


WRONG = {
    "nothing": ([], "evaluate must be given one run directory"),
    "no run": (["dataset.path=x"], "evaluate must be given one run directory"),
    "nowhere": (["nowhere"], "RUN_DIR must be the directory of a run"),
    "split": (["run", "split=dev"], "Received: dev. Valid: train, validation, test"),
    "format": (["run", "--format", "xml"], "Received: xml. Valid: table, json, csv"),
    "schedule": (["run", "seed=1", "schedule.phases.head.epochs=3"], "2 problems"),
    "size": (["run", "dataset.image_size=64"], "Received: dataset.image_size=64"),
    "no override": (["run", "other"], "overrides of evaluate must be keys that choose the data"),
    "type": (["run", "dataset.batch_size=many"], "dataset.batch_size must have the right type"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_exit_2_before_anything_is_loaded(name, folder, capsys, monkeypatch):
    arguments, message = WRONG[name]
    monkeypatch.chdir(folder[0])
    monkeypatch.setattr("finetune.commands.evaluating.import_quietly", None)
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_of_finetuner_is_evaluated_in_python(tmp_path, capsys):
    own_run(tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert ".evaluate(inputs, labels)" in capsys.readouterr().err


def labelled(labels):
    return Split("test", object_array(["x"] * len(labels)), np.asarray(labels))


def test_labels_are_matched_by_name_by_hand():
    assert matched(labelled([0, 1, 1]), ["b", "a"], ["a", "c", "b"], False).tolist() == [2, 0, 0]
    # classes without examples need not be known to the model
    assert matched(labelled([1, 1]), ["z", "a"], ["a", "b"], False).tolist() == [0, 0]
    hot = matched(labelled(np.asarray([[1, 1], [0, 1]])), ["b", "a"], ["a", "c", "b"], True)
    assert hot.tolist() == [[1, 0, 1], [1, 0, 0]]
    assert matched(labelled([1]), ["b", "a"], ["a", "c", "b"], True).tolist() == [[1, 0, 0]]
    with pytest.raises(ConfigError, match="dataset must have one label per example"):
        matched(labelled(np.asarray([[1, 1]])), ["b", "a"], ["a", "b"], False)

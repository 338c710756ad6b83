"""`compare` as it is typed: which runs it finds, what it writes where, and wrong ways."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli import main
from finetune.commands.comparing import read_runs, write_comparison
from finetune.errors import ConfigError
from finetune.record.files import RecordListener
from finetune.record.schema import MetricRow
from tests.helpers.records import make_record


def write_run(directory, accuracy=0.5, seed=0):
    record = make_record()
    record.config, record.status = {"seed": seed}, "completed"
    record.test = {"loss": 1.0, "accuracy": accuracy}
    record.history = [
        MetricRow(0, "head", 0, 0, split, 0.1, 1 / 3, accuracy, 0.5)
        for split in ("train", "validation")
    ]
    RecordListener(directory).run_ended(record)
    return record


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (0, 1, 2, 10):
        write_run(tmp_path / "sweep" / str(number), number / 10, number)
    return tmp_path / "sweep"


def test_a_sweep_stands_for_its_runs_in_natural_order(sweep):
    (sweep / ".hidden").mkdir()
    write_run(sweep / ".hidden" / "7")
    runs, problems = read_runs([sweep / "10", sweep])
    assert [run.directory.name for run in runs] == ["10", "0", "1", "2"]
    assert problems == []
    assert runs[0].record.history == write_run(sweep.parent / "again", 1.0, 10).history


def test_runs_below_a_folder_of_folders_are_found(sweep):
    write_run(sweep.parent / "b" / "1")
    runs, _ = read_runs([sweep.parent])
    names = [str(run.directory.relative_to(sweep.parent)) for run in runs]
    assert names == ["b/1", "sweep/0", "sweep/1", "sweep/2", "sweep/10"]


def test_a_table_is_shown_also_where_the_command_is_quiet(sweep, capsys):
    assert main(["compare", "sweep", "--quiet", "--sort", "seed"]) == 0
    shown = capsys.readouterr()
    assert "4 runs in sweep" in shown.out and "100.00%" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("options", [["--format", "json"], ["--format=json"]])
def test_json_goes_to_stdout(sweep, capsys, options):
    assert main(["compare", *options, "sweep/0", "sweep/1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2


def test_a_file_has_the_format_of_its_name(sweep, capsys):
    for name in ("a.json", "a.csv", "a.txt", "a.html"):
        assert main(["compare", "sweep", "--output", name]) == 0
        assert f"4 runs compared in {name}" in capsys.readouterr().out
    folder = sweep.parent
    assert len(json.loads((folder / "a.json").read_text())["runs"]) == 4
    assert len((folder / "a.csv").read_text().splitlines()) == 5
    assert "\x1b" not in (folder / "a.txt").read_text()
    assert (folder / "a.html").read_text().startswith("<!DOCTYPE html>")


def test_damaged_and_missing_runs_are_one_line_each(sweep, capsys):
    record = sweep / "1" / "run.json"
    record.write_text(record.read_text().replace("0.1", "0.9", 1))
    metrics = sweep / "2" / "metrics.csv"
    metrics.write_text(metrics.read_text()[:-20])
    (sweep.parent / "empty").mkdir()
    assert main(["compare", "sweep", "empty"]) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    for line, words in zip(
        lines, ("sweep/1/run.json must be", "sweep/2/metrics.csv must be", "empty must hold a run"),
        strict=True,
    ):  # fmt: skip
        assert words in line
    assert "3 runs in sweep" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare must be given directories of runs"),
        (["nowhere"], "RUN_DIR must be the directory of a run.*Received: nowhere"),
        (["sweep/0/run.json"], "RUN_DIR must be the directory of a run"),
        (["empty"], "RUN_DIR must be a directory with a run that can be read"),
        (["sweep", "--format", "jsn"], "Valid: table, json, csv, html. Did you mean json"),
        (["sweep", "--format"], "--format must have a value"),
        (["sweep", "--sort", "sed"], "Did you mean seed"),
        (["sweep", "--fast"], "unknown option --fast for compare. Valid: --format"),
        (["sweep", "--output", "no/a.csv"], "--output must be a file in a directory that exists"),
    ],
)
def test_wrong_ways_are_refused(sweep, capsys, arguments, message):
    (sweep.parent / "empty").mkdir()
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert re.search(message, error)


def test_no_tensorflow_is_imported(sweep):
    script = (
        "import sys; from finetune.cli import main\n"
        f"assert main(['compare', {str(sweep)!r}]) == 0\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'jinja2', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_page_links_to_those_of_its_runs_from_where_it_is(sweep):
    folder = sweep / "1 #?%"
    write_run(folder)
    for place in (folder, sweep / "2"):
        (place / "report.html").write_text("")
    page, _ = write_comparison(sweep)
    links = re.findall(r'href="([^"#:]+)"', page.read_text())
    assert set(links) == {"1%20%23%3F%25/report.html", "2/report.html"}
    assert main(["compare", str(sweep), "--output", str(sweep.parent / "c.html")]) == 0
    links = re.findall(r'href="([^"#:]+)"', (sweep.parent / "c.html").read_text())
    assert set(links) == {"sweep/1%20%23%3F%25/report.html", "sweep/2/report.html"}


def test_a_sweep_gets_a_page_of_its_own(sweep):
    (sweep / "2" / "run.json").write_text("{}")
    (sweep.parent / "none").mkdir()
    page, problems = write_comparison(sweep)
    assert page == sweep / "report.html"
    assert "3 runs in sweep" in page.read_text() and "Left out: " in page.read_text()
    assert len(problems) == 1
    with pytest.raises(ConfigError, match="must hold a run"):
        write_comparison(sweep.parent / "none")


def test_a_run_that_is_named_twice_counts_once(sweep):
    (sweep.parent / "link").symlink_to(sweep / "2")
    runs, problems = read_runs([sweep, sweep.parent / "sweep" / "0", sweep.parent / "link"])
    assert [run.directory.name for run in runs] == ["0", "1", "2", "10"]
    assert problems == []

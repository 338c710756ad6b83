"""`report` reads what a run has left, whatever it came to, and needs no TensorFlow for it."""

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from finetune.commands.reporting import report
from finetune.errors import ConfigError
from finetune.record.files import RecordListener
from tests.helpers.records import make_run


def leave(directory, record):
    """Leaves in a directory what a run leaves."""
    RecordListener(directory).run_ended(record)
    return str(directory)


def shown(arguments):
    out = io.StringIO()
    assert report(arguments, Console(file=out, width=80)) == 0
    return out.getvalue()


@pytest.mark.parametrize("status", ["running", "completed", "failed", "interrupted"])
def test_a_report_is_written_anew_of_any_run(tmp_path, status):
    text = shown([leave(tmp_path, make_run(status))])
    assert text.splitlines() == [
        f"report    {tmp_path}/report.html",
        f"pictures  {tmp_path}/plots: 12 files",
    ]
    assert status in (tmp_path / "report.html").read_text()
    assert (tmp_path / "plots/curves.png").is_file()


def test_a_run_that_has_nothing_to_draw_has_a_page(tmp_path):
    record = replace(make_run("running"), phases=[], history=[], seconds={}, test={})
    record.test_details = replace(record.test_details, confusion=[], reliability=[])
    text = shown([leave(tmp_path, record)])
    assert text.splitlines() == [f"report    {tmp_path}/report.html"]


def test_it_imports_no_tensorflow(tmp_path):
    leave(tmp_path, make_run())
    script = (
        "import sys; from finetune.cli import main\n"
        f"assert main(['report', {str(tmp_path)!r}]) == 0\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'sklearn', 'matplotlib.pyplot'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_sweep_has_one_page_of_all_its_jobs(tmp_path, capsys):
    for number in range(3):
        leave(tmp_path / str(number), make_run())
    (tmp_path / "1" / "run.json").write_text("{}")
    assert shown([str(tmp_path)]).splitlines() == [f"report    {tmp_path}/report.html"]
    assert "2 runs in" in (tmp_path / "report.html").read_text()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "1/run.json must be as a run wrote it" in line


@pytest.mark.parametrize("name", ["", "nothing", "file"])
def test_a_directory_of_no_run_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="RUN_DIR must be the directory of a run"):
        report([str(tmp_path / name)], Console())


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--", "--all", "a"]])
def test_it_is_given_one_directory(arguments):
    with pytest.raises(
        ConfigError, match="report must be given one directory of a run or a sweep. Received: "
    ):
        report(arguments, Console())


def test_a_damaged_record_is_refused(tmp_path):
    leave(tmp_path, make_run())
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"run\.json must be as a run wrote it"):
        report([str(tmp_path)], Console())

"""Suggestions repeat the command that was really used."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.launcher import command, installing, launcher, tool

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "-m", "finetune", "train"], "python -m finetune"),
        (["python3.12", "-P", "-X", "utf8", "-m", "finetune"], "python3.12 -P -X utf8 -m finetune"),
        (["python", "-mfinetune", "-m"], "python -mfinetune"),
        ([".venv/bin/python", "-m", "finetune", "-m"], ".venv/bin/python -m finetune"),
        (["/a b/python", "-m", "finetune"], "'/a b/python' -m finetune"),
        (["/e/bin/python", "/e/bin/finetune", "seed=1"], "/e/bin/finetune"),
    ],
)
def test_the_command_is_the_one_that_was_typed(words, expected):
    assert launcher(words, "/e/bin/python") == expected


def test_a_console_script_on_the_path_is_its_name(tmp_path, monkeypatch):
    script = tmp_path / "finetune"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher(["python", str(script)], sys.executable) == "finetune"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert launcher(["python", str(script)], sys.executable) == "./finetune"
    monkeypatch.chdir(tmp_path.parent)
    expected = f"{tmp_path.name}/finetune"
    assert launcher(["python", str(script)], sys.executable) == expected


@pytest.mark.parametrize("script", ["train.py", "-c", "x/ipykernel_launcher.py"])
def test_another_program_names_its_own_interpreter(script, tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\n", encoding="utf-8")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher(["python", script], "/e/bin/python") == "/e/bin/python -m finetune"
    assert launcher(["python", script], str(other)) == "python -m finetune"


def test_words_are_quoted_for_a_shell():
    given = ["predict", Path("a b"), "it's", "x=[1]"]
    assert shlex.split(command(*given)) == ["python", "-m", "finetune", *map(str, given)]


def test_an_extra_is_installed_from_the_project_and_from_no_index():
    assert "pip install -c constraints.txt -e '.[onnx]'" in installing("onnx")
    shown = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/**/*.yaml"), ROOT / "README.md"]
    shown += ROOT.glob("finetune/**/*.py")
    assert len(shown) > 100
    assert [str(page) for page in shown if "install 'finetune" in page.read_text("utf-8")] == []


def test_scripts_run_names_itself(tmp_path):
    """`scripts/run` with an environment that only shows what it is given."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "run").write_text((ROOT / "scripts" / "run").read_text("utf-8"), "utf-8")
    (scripts / "run").chmod(0o755)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$FINETUNE_LAUNCHER|$*"\n', encoding="utf-8")
    python.chmod(0o755)
    fake = f"def prepare(extras):\n    return {str(python)!r}\n"
    (scripts / "environment.py").write_text(fake, encoding="utf-8")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(
        ["scripts/run", "seed=1"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.stdout == "scripts/run|-P -m finetune seed=1\n", shown.stderr


def test_a_tool_is_started_as_the_shell_finds_it_or_by_this_interpreter(tmp_path, monkeypatch):
    here = tmp_path / "bin" / "python"
    here.parent.mkdir()
    for path in (here, here.parent / "mlflow"):
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(here))
    monkeypatch.setenv("PATH", str(here.parent))
    assert tool("mlflow") == "mlflow"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # the environment is not activated
    monkeypatch.chdir(tmp_path)
    assert tool("mlflow") == "bin/python -m mlflow"

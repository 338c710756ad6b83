"""The wheel holds configs and presets, and works from any folder without the repository."""

import json
import os
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from finetune import __version__

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def data_files(folder):
    """Lists the files below a folder of the repository, byte code and hidden files apart."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel as `pip wheel .` does, with the pinned build tools already installed."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(target)], cwd=ROOT, check=True)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Makes an environment with the wheel, and the dependencies of this one behind it."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    library = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    # A path line only appends to sys.path: it reads no .pth there, so that an editable finetune
    # of this environment stays out of sight.
    behind = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    (Path(library) / "dependencies.pth").write_text("\n".join(dict.fromkeys(behind)) + "\n")
    return folder


def run(command, cwd):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)


def test_wheel_holds_every_config(wheel):
    configs = data_files(ROOT / "configs")
    assert "config.yaml" in configs
    held = zipfile.ZipFile(wheel).namelist()
    assert [name for name in configs if f"finetune/configs/{name}" not in held] == []


def test_wheel_holds_every_file_of_the_presets(wheel):
    presets = data_files(ROOT / "finetune/backbones/presets")
    assert presets
    held = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in presets if f"finetune/backbones/presets/{name}" not in held]
    assert missing == []


def test_wheel_holds_every_template(wheel):
    templates = data_files(ROOT / "finetune/reporting/templates")
    assert "model_card.md" in templates
    held = zipfile.ZipFile(wheel).namelist()
    assert [n for n in templates if f"finetune/reporting/templates/{n}" not in held] == []


def test_wheel_holds_nothing_else(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    information = f"finetune-{__version__}.dist-info"
    assert {name.split("/")[0] for name in held} == {"finetune", information}
    assert not [name for name in held if name.endswith(".pyc")]


def test_installed_package_is_the_wheels(installed, tmp_path):
    done = run(
        [installed / "bin/python", "-c", "import finetune; print(finetune.__file__)"], tmp_path
    )
    assert done.stdout.startswith(str(installed)), done.stderr


@pytest.mark.parametrize("command", [["python", "-m", "finetune"], ["finetune"]], ids=str)
def test_installed_command_answers_from_any_folder(installed, tmp_path, command):
    program = [installed / "bin" / command[0], *command[1:]]
    done = run([*program, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m finetune" in done.stdout


def test_installed_package_trains_from_any_folder(installed, tmp_path):
    command = [installed / "bin/python", "-m", "finetune", "experiment=resnet_probe"]
    short = ["dataset.max_samples=40", "schedule.phases.head.epochs=1"]
    done = run([*command, *short, "hydra.run.dir=run"], tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "completed"
    assert record["backbone"]["source"] == "bundled"
    assert (tmp_path / "run/model/config.json").is_file()

"""The package in examples/plugin: installed, trained with from the command line, and uninstalled."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
ORIGIN = "finetune-moons 1.0"


def finetune(*arguments, cwd, site=None):
    """Runs a command in a process of its own, with the packages in `site`."""
    return subprocess.run(
        [sys.executable, "-m", "finetune", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200", **({} if site is None else {"PYTHONPATH": str(site)})},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Installs a copy of the example into a directory of its own, without a network."""
    place = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, place / "source")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", place / "site", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return place / "site"


def test_the_example_has_fewer_than_80_lines():
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml", ".yaml")]
    assert len(files) == 3
    assert sum(len(path.read_text().splitlines()) for path in files) < 80


def test_the_catalog_says_which_package_an_entry_is_of(tmp_path, site):
    broken = tmp_path / "bad-2.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Name: bad\nVersion: 2.0\n")
    (broken / "entry_points.txt").write_text("[finetune.policies]\nworse = nothing_like_it:Worse\n")
    found = finetune("catalog", cwd=tmp_path, site=f"{site}{os.pathsep}{tmp_path}")
    assert found.returncode == 0, found.stderr
    rows = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    for name in ("moons", "kernels", "balanced_accuracy"):
        assert ORIGIN in rows[name]
    assert "finetune  " in rows["bias_only"] and "finetune  " in rows["macro_f1"]
    assert "broken: policies must be a freeze policy that can be imported." in rows["worse"]
    assert "bad 2.0" in rows["worse"] and "No module named" in found.stdout


@pytest.mark.slow
def test_a_run_with_the_example_is_trained_recorded_and_read_without_it(tmp_path, site):
    overrides = ["experiment=moons", "hydra.run.dir=run", f"features.dir={tmp_path}/features"]
    done = finetune(*overrides, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert "balanced_accuracy" in done.stdout
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["plugins"] == {
        "datasets.moons": ORIGIN, "policies.kernels": ORIGIN, "metrics.balanced_accuracy": ORIGIN,
    }  # fmt: skip
    assert record["directions"] == {"balanced_accuracy": "max"}
    assert 0.5 < record["test"]["balanced_accuracy"] <= 1
    assert record["dataset"]["splits"] == {"train": 160, "validation": 20, "test": 20}
    trainable = record["phases"][0]["weight_counts"]["trainable"]["weights"]
    assert trainable == 2 + 3  # the head, and the kernels of the last stage
    for verb in ("compare", "report"):  # made of the record alone
        assert finetune(verb, "run", cwd=tmp_path).returncode == 0
    there = finetune("evaluate", "run", "--format", "json", cwd=tmp_path, site=site)
    assert json.loads(there.stdout)["metrics"] == pytest.approx(record["test"], rel=1e-5)
    for verb in ("evaluate", "resume"):
        gone = finetune(verb, "run", cwd=tmp_path)
        assert gone.returncode == 2
        assert gone.stderr.strip().endswith("Install it: pip install finetune-moons==1.0.")

"""The pages that are generated are what their sources say, and leave no key out."""

import importlib.util
import sys
from pathlib import Path

import pytest

from finetune.config.compose import compose_config
from finetune.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def load_script():
    spec = importlib.util.spec_from_file_location(
        "config_reference", ROOT / "scripts" / "config_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["config_reference"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reference = load_script()


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_what_would_be_written(name):
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run scripts/config_reference.py"


def test_every_key_has_a_row_with_what_it_does():
    rows = [row for row in reference.config_page().splitlines() if row.startswith("| `")]
    paths = [path for path, _ in reference.keys()]
    assert "schedule.phases.NAME.freeze.unfreeze_depth" in paths and len(paths) > 60
    for path in paths:
        (row,) = [row for row in rows if row.startswith(f"| `{path}` |")]
        assert row.rstrip("| .").rpartition("| ")[2], path


def test_a_key_without_a_comment_is_refused(monkeypatch):
    bare = reference.Said("1", "")
    monkeypatch.setattr(reference, "said", lambda file: {"seed": bare})
    with pytest.raises(SystemExit, match=r"seed must have a comment in configs/"):
        reference.config_page()


def test_comments_go_on_below_and_hold_for_what_is_in_their_line(tmp_path):
    file = tmp_path / "dataset" / "x.yaml"
    file.parent.mkdir()
    file.write_text(
        "# of the file\nsplits: {train: a}  # in one line\nname: null  # first\n            # second\n"
        "seed: 1\n"
    )
    found = reference.said(file)
    assert found["dataset.splits"].comment == "in one line"
    assert found["dataset.splits.train"].comment == "in one line"
    assert found["dataset.name"] == reference.Said("null", "first second")
    assert found["dataset.seed"].comment == ""


@pytest.mark.parametrize("path", reference.CHOICES)
def test_the_names_of_a_closed_list_are_those_that_the_config_takes(path):
    key = path.replace("NAME", "head")
    with pytest.raises(ConfigError) as refused:
        compose_config(["schedule=progressive", f"{key}=nonsense"])
    for name in reference.CHOICES[path]:
        assert name in str(refused.value)


def test_a_stale_page_is_named(monkeypatch, capsys):
    monkeypatch.setitem(reference.PAGES, "config.md", lambda: "other")
    assert reference.main(["--check"]) == 1
    assert "['config.md']" in capsys.readouterr().out

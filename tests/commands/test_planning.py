"""`inspect --picture` draws the freeze map, and is told what it cannot draw before it begins."""

import pytest

from finetune.cli import main
from finetune.commands.planning import inspect
from finetune.errors import ConfigError


@pytest.mark.parametrize(
    "given", [["--picture", "map"], ["--picture", "map.gif"], ["--picture=no/m.png"]]
)
def test_a_picture_that_cannot_be_written_is_refused_first(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--picture must be a file that ends with .*Received: "):
        inspect([*given, "schedule.phases.head.epochs=0"], None)


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_inspect_draws_the_freeze_map(suffix, begin, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "experiment=resnet_probe", "--picture", f"map.{suffix}"]) == 0
    assert f"freeze map  map.{suffix}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [f"map.{suffix}"]
    assert (tmp_path / f"map.{suffix}").read_bytes().startswith(begin)

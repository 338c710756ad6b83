"""Checkpoints on disk: damage of any kind is found, and the checkpoint before is used."""

import json

import numpy as np
import pytest

from finetune.errors import ConfigError
from finetune.schedule.phase import Phase
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import resume_point
from tests.helpers.resumable_runs import ALL, PHASES, Run, position_of, put, reseal

pytestmark = pytest.mark.usefixtures("deterministic", "every_epoch_is_kept")
FILES = ["checkpoint.json", "weights.safetensors", "optimizer.safetensors", "seeds.safetensors"]


def test_the_last_two_and_the_best_are_kept(tmp_path):
    run = Run(tmp_path, phases=[PHASES[0], Phase("worse", 3, 3.0, ALL)]).run()
    losses = [r.loss for r in run.record.history if r.split == "validation"]
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    best = json.loads((paths[0] / "checkpoint.json").read_text())
    assert best["score"] == -min(losses)
    assert best["state"]["position"]["epoch"] == int(np.argmin(losses)) + 1


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_and_the_checkpoint_before_is_used(killed, name, caplog):
    _, newest = sorted(killed.iterdir())
    whole = (newest / name).read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        content = bytearray(whole)
        content[place] ^= 0x10
        (newest / name).write_bytes(content)
        caplog.clear()
        found = Checkpoints(killed).latest(resume_point)
        if whole[place : place + 1].isspace() and found.state.position.epoch == 2:
            assert name == "checkpoint.json"  # a space between two values
        else:
            assert found.state.position.epoch == 1
            assert f"checkpoint {newest} is damaged" in caplog.text
            newest.with_name(f"{newest.name}.damaged").rename(newest)
    (newest / name).write_bytes(whole)
    assert position_of(killed).epoch == 2


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_or_gone_is_found(killed, name):
    newest = max(killed.iterdir())
    whole = (newest / name).read_bytes()
    for content in (b"", whole[:-1], whole + b"x"):
        (newest / name).write_bytes(content)
        assert position_of(killed).epoch == 1
        newest.with_name(f"{newest.name}.damaged").rename(newest)
    (newest / name).unlink()
    assert position_of(killed).epoch == 1


def test_nothing_is_begun_anew_where_every_checkpoint_is_damaged(killed):
    for path in killed.iterdir():
        (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"must hold a whole checkpoint. Received: 2, none of them"
    ):
        Checkpoints(killed).latest(resume_point)
    with pytest.raises(ConfigError, match="must hold a whole checkpoint"):  # nor when asked again
        Checkpoints(killed).latest(resume_point)


def test_a_checkpoint_of_an_earlier_version_is_refused_and_left_alone(killed):
    paths = sorted(killed.iterdir())
    for path in paths:
        reseal(path / "checkpoint.json", put("format", value=1))
    with pytest.raises(
        ConfigError, match=r"of format 2. Received: format 1, which an earlier version"
    ):
        Checkpoints(killed).latest(resume_point)
    assert sorted(killed.iterdir()) == paths


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", "[" * 200_000, "\0"])
def test_a_checkpoint_that_is_no_json_is_one_that_is_damaged(killed, text):
    (max(killed.iterdir()) / "checkpoint.json").write_text(text)
    assert position_of(killed).epoch == 1


def test_what_lies_among_checkpoints_is_left_alone(killed):
    for name in ("7", "٣", "notes", "000009.damaged"):
        (killed / name).mkdir()
    (killed / "000099").write_text("a file")
    assert position_of(killed).epoch == 2
    assert {"7", "٣", "notes"} <= {path.name for path in killed.iterdir()}

"""The state in a checkpoint is one that a run can have, or the checkpoint counts as damaged."""

import shutil

import pytest

from finetune.errors import ConfigError
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import resume_point
from tests.helpers.resumable_runs import position_of, put, reseal

pytestmark = pytest.mark.usefixtures("deterministic", "every_epoch_is_kept")
POSITION = ("state", "position")
HOSTILE = [
    put("files"), put("files", value=[]), put("files", value={"../../x.safetensors": "0" * 64}),
    put("files", value={"..": "0"}), put("state"), put("state", value=[]), put("state", "record"),
    put("state", "record", value=[]), put("state", "record", "config"), put("score", value="x"),
    put("state", "record", "phases", value=[]), put("state", "record", "phases", value=[3]),
    put("state", "record", "seconds", value={"total": "x"}), put("format", value=9),
    put(*POSITION), put(*POSITION, "phase", value=-1), put(*POSITION, "phase", value="x"),
    put(*POSITION, "phase", value=99), put(*POSITION, "epoch", value=-5),
    put(*POSITION, "step", value=10**6), put(*POSITION, "step", value=-1),
    put(*POSITION, "step", value=3), put(*POSITION, "unknown", value=1),
    put("state", "decisions", value={"x": {}}), put("state", "decisions", value=[]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_checkpoint_that_no_run_wrote_is_one_that_is_damaged(killed, number):
    reseal(max(killed.iterdir()) / "checkpoint.json", HOSTILE[number])
    assert position_of(killed).epoch == 1  # the one before


@pytest.mark.parametrize(
    "change",
    [put("state", "phase"), put("state", "phase", "waited"), put("state", "phase", "num_steps"),
     put("state", "phase", "num_steps", value=-3), put(*POSITION, "inside", value=False)],
)  # fmt: skip
def test_nor_one_within_a_phase(killed, change):
    shutil.rmtree(max(killed.iterdir()))  # what is left is from within the phase probe
    reseal(max(killed.iterdir()) / "checkpoint.json", change)
    with pytest.raises(ConfigError, match="must hold a whole checkpoint"):
        Checkpoints(killed).latest(resume_point)

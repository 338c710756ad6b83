"""Fixtures for runs that are killed and resumed."""

import shutil
import signal

import pytest
from tensorflow.python.framework import config as tf_config

from finetune.training import checkpointer
from tests.helpers.resumable_runs import Killed, Run, kill_at


@pytest.fixture(scope="module")
def deterministic():
    """TensorFlow's kernels give the same bits each time."""
    tf_config.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.fixture
def every_epoch_is_kept(monkeypatch):
    """As if each epoch took long; and SIGTERM is heard, as under the command line."""
    monkeypatch.setattr(checkpointer, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(checkpointer, "SAVING_SHARE", 1e9)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def never_killed(deterministic):
    """What runs without any checkpoint come to, by their settings; each is run once."""
    known = {}

    def end_of(**settings):
        key = repr(settings)
        if key not in known:
            known[key] = Run(None, **settings).run().end()
        return known[key]

    return end_of


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory, deterministic):
    """The checkpoints of a run killed in its third epoch."""
    directory = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointer, "EPOCH_SECONDS", 0.0)
        patch.setattr(checkpointer, "SAVING_SHARE", 1e9)
        with pytest.raises(Killed):
            Run(directory, kill_at(8)).run()
    assert len(list(directory.iterdir())) == 2
    return directory


@pytest.fixture
def killed(two_checkpoints, tmp_path):
    """A copy of them."""
    return shutil.copytree(two_checkpoints, tmp_path / "checkpoints")

"""TensorBoard's files, read back: scalars, hyperparameters, pictures; once each, also resumed."""

import io

import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from finetune.reporting.trackers.tensorboard import TensorBoardTracker
from tests.reporting.test_reporting import play
from tests.reporting.trackers.standing_in import listening, written
from tests.reporting.trackers.test_story import two_phases


def read(directory):
    """Returns (what tensorboard reads of a directory, its scalars by tag and step)."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    scalars = {
        (tag, each.step): float(tf.make_ndarray(each.tensor_proto))
        for tag in events.PluginTagToContent("scalars")
        for each in events.Tensors(tag)
    }
    return events, scalars


@pytest.fixture
def told(tmp_path):
    """Returns what tells TensorBoard of a run in `tmp_path`."""
    written(tmp_path)

    def make():
        return listening({"TensorBoard": TensorBoardTracker(tmp_path / "tensorboard")}, tmp_path)

    return make


def test_it_gets_counts_rates_metrics_and_pictures(tmp_path, told):
    play(told())
    events, scalars = read(tmp_path / "tensorboard")
    assert scalars["counts/trainable_parameters", 0] == 2
    assert scalars["counts/non_trainable_weights", 0] == 1
    assert scalars["stages/stem/frozen_parameters", 0] == 2
    assert scalars["learning_rate/head", 0] == pytest.approx(0.1)
    assert scalars["loss/train", 4] == 0.75
    assert scalars["accuracy/validation", 4] == 0.625
    assert scalars["accuracy/test", 5] == 0.25
    (picture,) = events.Tensors("pictures/curves")
    width, height, png = tf.make_ndarray(picture.tensor_proto)
    assert (picture.step, width, height) == (5, b"7", b"5")
    assert Image.open(io.BytesIO(png)).size == (7, 5)
    assert list(events.PluginTagToContent("images")) == ["pictures/curves"]


def test_hyperparameters_are_told_with_their_metrics(tmp_path, told, monkeypatch):
    record = two_phases()
    record.config = {"seed": 3, "optimizer": {"name": "sgd", "momentum": None}}
    monkeypatch.setattr("tests.reporting.test_reporting.make_record", lambda: record)
    play(told())
    content = read(tmp_path / "tensorboard")[0].PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    assert [each.name.tag for each in experiment.metric_infos][:2] == ["accuracy/test", "loss/test"]
    begun = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert set(begun.hparams) == {"seed", "optimizer.name"}
    assert begun.hparams["seed"].number_value == 3
    ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_no_step_is_there_twice_after_a_resume(tmp_path, told):
    record = two_phases()
    rows, record.history = record.history, record.history[:4]
    first = told()
    first.run_started(record)
    record.status = "interrupted"
    first.run_ended(record)
    record.history = rows[:2]
    second = told()
    second.run_started(record)
    record.history, record.status = rows, "completed"
    second.run_ended(record)
    events, _ = read(tmp_path / "tensorboard")
    for tag in events.PluginTagToContent("scalars"):
        steps = [each.step for each in events.Tensors(tag)]
        assert steps == sorted(set(steps)), tag
    assert [each.step for each in events.Tensors("loss/train")] == [0, 1, 2, 3]


def test_where_the_events_cannot_be_written_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def full(*given, **more):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.summary, "write", full)
    play(listening({"TensorBoard": TensorBoardTracker(tmp_path)}, tmp_path))
    assert caplog.text.count("TensorBoard could not take metrics") == 1
    assert "No space left" in caplog.text

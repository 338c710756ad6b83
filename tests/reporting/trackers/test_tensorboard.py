"""TensorBoard's files, read back: scalars, hyperparameters and pictures, without duplicates."""

import io
import time

import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from finetune.reporting.trackers.tensorboard import SPLITS, TAGS, TensorBoardTracker
from tests.helpers.listeners import play
from tests.helpers.records import two_phases
from tests.helpers.standing_in import listening, written


def read(directory):
    """Returns what TensorBoard reads from a directory, and its scalars by tag and step."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    scalars = {
        (tag, event.step): float(tf.make_ndarray(event.tensor_proto))
        for tag in events.PluginTagToContent("scalars")
        for event in events.Tensors(tag)
    }
    return events, scalars


@pytest.fixture
def told(tmp_path):
    """Returns a function that sends a run to TensorBoard in `tmp_path`."""
    written(tmp_path)

    def make():
        return listening({"TensorBoard": TensorBoardTracker(tmp_path / "tensorboard")}, tmp_path)

    return make


def test_tensorboard_gets_counts_rates_metrics_and_pictures(tmp_path, told):
    play(told())
    events, scalars = read(tmp_path / "tensorboard")
    assert scalars["counts/trainable_parameters", 0] == 2
    assert scalars["counts/non_trainable_weights", 0] == 1
    assert scalars["stages/stem/frozen_parameters", 0] == 2
    assert scalars["learning_rate/head", 0] == pytest.approx(0.1)
    train, validation = (read(tmp_path / "tensorboard" / split)[1] for split in SPLITS)
    assert train["epoch_loss", 4] == 0.75
    assert validation["epoch_accuracy", 4] == 0.625
    assert {tag for tag, _ in train} == {tag for tag, _ in validation} == set(TAGS.values())
    assert scalars["accuracy/test", 5] == 0.25
    (picture,) = events.Tensors("pictures/curves")
    width, height, png = tf.make_ndarray(picture.tensor_proto)
    assert (picture.step, width, height) == (5, b"7", b"5")
    assert Image.open(io.BytesIO(png)).size == (7, 5)
    assert list(events.PluginTagToContent("images")) == ["pictures/curves"]


def test_hyperparameters_are_sent_with_their_metrics(tmp_path, told):
    record = two_phases()
    record.overrides = ["experiment=x", "seed=3"]
    record.config = {
        "seed": 3,
        "optimizer": {"name": "sgd", "momentum": None},
        "dataset": {"flip": True},
        "runtime": {"device": "auto"},
    }
    play(told(), record)
    content = read(tmp_path / "tensorboard")[0].PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    assert [metric.name.tag for metric in experiment.metric_infos][:2] == [
        "accuracy/test",
        "loss/test",
    ]
    begun = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert {(param.name, param.type) for param in experiment.hparam_infos} == {
        ("seed", api_pb2.DATA_TYPE_FLOAT64),
        ("optimizer.name", api_pb2.DATA_TYPE_STRING),
        ("optimizer.momentum", api_pb2.DATA_TYPE_FLOAT64),
        ("dataset.flip", api_pb2.DATA_TYPE_BOOL),
    }
    assert [param.name for param in experiment.hparam_infos if param.differs] == ["seed"]
    assert set(begun.hparams) == {"seed", "optimizer.name", "dataset.flip", "runtime.device"}
    assert begun.hparams["seed"].number_value == 3
    ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_a_resumed_run_repeats_no_step(tmp_path, told):
    record = two_phases()
    rows, record.history = record.history, record.history[:4]
    first = told()
    first.run_started(record)
    record.status = "interrupted"
    first.run_ended(record)
    time.sleep(1.1 - time.time() % 1)  # files are read in the order of their whole seconds
    record.history = rows[:2]
    second = told()
    second.run_started(record)
    record.history, record.status = rows, "completed"
    second.run_ended(record)
    for name in ("", *SPLITS):
        events, _ = read(tmp_path / "tensorboard" / name)
        for tag in events.PluginTagToContent("scalars"):
            steps = [event.step for event in events.Tensors(tag)]
            assert steps == sorted(set(steps)), tag
    assert [event.step for event in events.Tensors("epoch_loss")] == [0, 1, 2, 3]


class Flags:
    """The flags that TensorBoard's plugins read."""

    generic_data = "true"


def test_the_hparams_tab_shows_two_runs_with_their_values_and_metrics(tmp_path):
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import backend_context, list_session_groups

    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        record = two_phases()
        record.config = {"seed": seed, "schedule": {"phases": {"p": {"learning_rate": 0.1 * seed}}}}
        tracker = TensorBoardTracker(tmp_path / name / "tensorboard")
        listener = listening({"TensorBoard": tracker}, tmp_path / name)
        listener.run_started(record)
        record.status = "completed"
        listener.run_ended(record)
    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"tensors": 0})
    multiplexer.AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, multiplexer=multiplexer, flags=Flags())
    )
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10)
    for status in ("STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"):
        request.allowed_statuses.append(getattr(api_pb2, status))
    for name in ("seed", "schedule.phases.p.learning_rate"):
        request.col_params.add(hparam=name, include_in_result=True)
    found = context.experiment_from_metadata(
        RequestContext(), "", True, context.hparams_metadata(RequestContext(), ""),
        context.hparams_from_data_provider(RequestContext(), "", 0),
    )  # fmt: skip
    names = {param.name for param in found.hparam_infos}
    assert names == {"seed", "schedule.phases.p.learning_rate"}
    for metric in found.metric_infos:
        request.col_params.add(metric=metric.name, include_in_result=True)
    answer = list_session_groups.Handler(RequestContext(), context, "", request).run()
    shown = {}
    for group in answer.session_groups:
        values = {(value.name.group, value.name.tag): value.value for value in group.metric_values}
        shown[group.hparams["seed"].number_value] = values
    assert set(shown) == {1.0, 2.0}
    for values in shown.values():
        assert values == {
            ("", "accuracy/test"): 0.25, ("", "loss/test"): 1.0,
            ("validation", "epoch_accuracy"): 0.5, ("validation", "epoch_loss"): 1.0,
            ("train", "epoch_loss"): 1.0,
        }  # fmt: skip

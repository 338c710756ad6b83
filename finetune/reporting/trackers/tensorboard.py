"""TensorBoard: event files in the run directory with scalars, pictures and hyperparameters."""

import struct
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event, Value, comparable, hyperparameters

SPLITS = ("train", "validation")  # each is a TensorBoard run below that of the whole run
# Tags of an epoch in both runs, as in `keras.callbacks.TensorBoard`.
TAGS = {
    "loss": "epoch_loss",
    "accuracy": "epoch_accuracy",
    "epoch_seconds": "epoch_seconds",
}
METRICS = (  # of the HPARAMS tab: run, tag, readable name
    ("", "accuracy/test", "accuracy/test"),
    ("", "loss/test", "loss/test"),
    ("validation", "epoch_accuracy", "accuracy/validation"),
    ("validation", "epoch_loss", "loss/validation"),
    ("train", "epoch_loss", "loss/train"),
)


def placed(name: str) -> tuple[str, str]:
    """Returns the TensorBoard run and the tag of a number.

    >>> placed("loss/validation"), placed("loss/test")
    (('validation', 'epoch_loss'), ('', 'loss/test'))
    """
    measure, _, split = name.rpartition("/")
    return (split, TAGS[measure]) if measure in TAGS and split in SPLITS else ("", name)


class TensorBoardTracker:
    """Writes event files with TensorFlow.

    Args:
        directory: Log directory, such as ``RUN_DIR/tensorboard``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[str, Any] = {}

    def open(self, run: TrackedRun) -> str:
        """Opens event files; those of a new run start with hyperparameters and their metrics."""
        import tensorflow as tf

        self._tf = tf
        self._metadata = tf.compat.v1.SummaryMetadata()
        self._metadata.plugin_data.plugin_name = "scalars"
        self._metadata.data_class = 1  # DATA_CLASS_SCALAR
        self._writers = {
            name: tf.summary.create_file_writer(str(self._directory / name))
            for name in ("", *SPLITS)
        }
        if run.known is None:
            from tensorboard.plugins.hparams import summary_v2 as hparams

            self._raw(_experiment(comparable(run.config), run.given))
            with self._writers[""].as_default(step=0):
                hparams.hparams(hyperparameters(run.config), trial_id=str(run.directory))
            self._writers[""].flush()
        return self._directory.name

    def metrics(self, events: Sequence[Event]) -> None:
        """Writes scalars."""
        for event in events:
            for name, value in event.values.items():
                where, tag = placed(name)
                with self._writers[where].as_default(step=event.step):
                    self._tf.summary.write(tag, float(value), metadata=self._metadata)
        for writer in self._writers.values():
            writer.flush()

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Writes the bytes of the PNG file."""
        from tensorboard.plugins.image import metadata

        width, height = struct.unpack(">II", png[16:24])  # in the header of the file
        about = metadata.create_summary_metadata(display_name=None, description=None)
        content = self._tf.constant([str(width).encode(), str(height).encode(), png])
        with self._writers[""].as_default(step=step):
            self._tf.summary.write(f"pictures/{name}", content, metadata=about)

    def file(self, path: Path) -> None:
        """Does nothing, because TensorBoard's files are in the same directory."""

    def close(self, status: str) -> None:
        """Closes the files, and marks the hyperparameters of a completed run as successful."""
        if status == "completed":
            from tensorboard.plugins.hparams import api_pb2, summary

            success = api_pb2.STATUS_SUCCESS  # type: ignore[attr-defined] - protobuf defines it
            self._raw(summary.session_end_pb(success))
        for writer in self._writers.values():
            writer.close()

    def _raw(self, message: Any) -> None:
        """Writes a message for which TensorFlow has no function."""
        with self._writers[""].as_default(step=0):
            self._tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)


def _experiment(values: Mapping[str, Value | None], given: Set[str]) -> Any:
    """Returns the columns of the HPARAMS tab.

    TensorBoard shows the first few columns, and sorts those that differ between runs to the front.
    At the start of a run, these are assumed to be the keys set by the user and the learning rates.
    """
    from tensorboard.plugins.hparams import api_pb2, summary, summary_v2

    made: Any = api_pb2  # protobuf defines its names at run time
    kinds = {bool: made.DATA_TYPE_BOOL, str: made.DATA_TYPE_STRING}
    columns = [
        made.HParamInfo(
            name=name,
            type=kinds.get(type(value), made.DATA_TYPE_FLOAT64),
            differs=name in given or name.endswith("learning_rate"),
        )
        for name, value in values.items()
    ]
    metrics = [
        summary_v2.Metric(tag, group=where, display_name=name).as_proto()
        for where, tag, name in METRICS
    ]
    return summary.experiment_pb(hparam_infos=columns, metric_infos=metrics)

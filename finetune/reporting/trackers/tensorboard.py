"""TensorBoard: event files with scalars, pictures and hyperparameters in the run directory."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.reporting.trackers.protocol import TrackedRun
from finetune.reporting.trackers.story import Event, hyperparameters

METRICS = ("accuracy/test", "loss/test", "accuracy/validation", "loss/validation")


class TensorBoardTracker:
    """Writes event files, with TensorFlow.

    Args:
        directory: the log directory, e.g. ``RUN_DIR/tensorboard``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Any = None

    def open(self, run: TrackedRun) -> str:
        """Opens an event file; a new run's begins with its hyperparameters and their metrics."""
        import tensorflow as tf

        self._tf = tf
        self._metadata = tf.compat.v1.SummaryMetadata()
        self._metadata.plugin_data.plugin_name = "scalars"
        self._metadata.data_class = 1  # DATA_CLASS_SCALAR
        self._writer = tf.summary.create_file_writer(str(self._directory))
        if run.known is None:
            from tensorboard.plugins.hparams import summary_v2 as hparams

            metrics = [hparams.Metric(tag) for tag in METRICS]
            with self._writer.as_default(step=0):
                hparams.hparams_config([], metrics)
                hparams.hparams(hyperparameters(run.config), trial_id=str(run.directory))
            self._writer.flush()
        return self._directory.name

    def metrics(self, events: Sequence[Event]) -> None:
        """Writes scalars."""
        for event in events:
            with self._writer.as_default(step=event.step):
                for name, value in event.values.items():
                    self._tf.summary.write(name, float(value), metadata=self._metadata)
        self._writer.flush()

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Writes the PNG as it is."""
        from tensorboard.plugins.image import metadata

        width, height = struct.unpack(">II", png[16:24])  # of the header, which comes first
        about = metadata.create_summary_metadata(display_name=None, description=None)
        content = self._tf.constant([str(width).encode(), str(height).encode(), png])
        with self._writer.as_default(step=step):
            self._tf.summary.write(f"pictures/{name}", content, metadata=about)

    def file(self, path: Path) -> None:
        """Writes nothing: the files are beside TensorBoard's."""

    def close(self, status: str) -> None:
        """Closes the file; a completed run's hyperparameters are marked as such."""
        if status == "completed":
            from tensorboard.plugins.hparams import api_pb2, summary

            success = api_pb2.STATUS_SUCCESS  # type: ignore[attr-defined] - made by protobuf
            end = summary.session_end_pb(success).SerializeToString()
            with self._writer.as_default(step=0):
                self._tf.summary.experimental.write_raw_pb(end, step=0)
        self._writer.close()

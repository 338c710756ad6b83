"""TensorBoard scalars: metrics by global epoch, weight counts by phase.

Written with TensorFlow alone; only to look at them needs the tensorboard package.
"""

from pathlib import Path

from finetune.printable import printable
from finetune.record import MetricRow, PhaseRecord, RunRecord


class TensorBoardListener:
    """Writes event files.

    Args:
        directory: the log directory, e.g. ``RUN_DIR/tensorboard``.
    """

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        self._write = tf.summary.write
        self._metadata = tf.compat.v1.SummaryMetadata()
        self._metadata.plugin_data.plugin_name = "scalars"
        self._metadata.data_class = 1  # DATA_CLASS_SCALAR
        self._writer = tf.summary.create_file_writer(str(directory))
        self._epoch = 0

    def run_started(self, record: RunRecord) -> None:
        """Writes nothing; a run that goes on goes on at its epoch."""
        self._epoch = max((row.global_epoch + 1 for row in record.history), default=0)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes ``counts/STATE_weights`` and ``counts/STATE_parameters`` at the global epoch."""
        with self._writer.as_default(step=self._epoch):
            for state, count in phase.weight_counts.items():
                for unit, number in count.items():
                    self._scalar(f"counts/{state}_{unit}", number)
            for stage, rate in phase.learning_rates.items():
                self._scalar(f"learning_rate/{printable(stage)}", rate)

    def extracting(self, what: str, done: int, total: int) -> None:
        """Writes nothing."""

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Writes nothing."""

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Writes ``loss/SPLIT`` and ``accuracy/SPLIT``."""
        for row in rows:
            with self._writer.as_default(step=row.global_epoch):
                self._scalar(f"loss/{row.split}", row.loss)
                self._scalar(f"accuracy/{row.split}", row.accuracy)
            self._epoch = row.global_epoch + 1
        self._writer.flush()

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes nothing."""

    def run_ended(self, record: RunRecord) -> None:
        """Writes the test metrics and closes the file."""
        with self._writer.as_default(step=self._epoch):
            for name, value in record.test.items():
                self._scalar(f"{name}/test", value)
        self._writer.close()

    def _scalar(self, name: str, value: float) -> None:
        self._write(name, float(value), metadata=self._metadata)

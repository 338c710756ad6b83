"""TensorBoard scalars: metrics by global epoch, weight counts by phase.

Written with TensorFlow alone; only to look at them needs the tensorboard package.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.printable import printable
from finetune.record import MetricRow, PhaseRecord, RunRecord

log = logging.getLogger(__name__)


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
        self._failure = tf.errors.OpError
        self._writer: Any = tf.summary.create_file_writer(str(directory))
        self._epoch = 0

    def run_started(self, record: RunRecord) -> None:
        """Writes nothing; a run that goes on goes on at its epoch."""
        self._epoch = max((row.global_epoch + 1 for row in record.history), default=0)

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes ``counts/STATE_weights`` and ``counts/STATE_parameters`` at the global epoch."""
        scalars = {
            f"counts/{state}_{unit}": number
            for state, count in phase.weight_counts.items()
            for unit, number in count.items()
        }
        rates = {f"learning_rate/{printable(k)}": v for k, v in phase.learning_rates.items()}
        self._scalars(self._epoch, scalars | rates)

    def extracting(self, what: str, done: int, total: int) -> None:
        """Writes nothing."""

    def step(
        self, phase: PhaseRecord, epoch: int, step: int, num_steps: int, logs: dict[str, float]
    ) -> None:
        """Writes nothing."""

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Writes ``loss/SPLIT`` and ``accuracy/SPLIT``."""
        for row in rows:
            scalars = {f"loss/{row.split}": row.loss, f"accuracy/{row.split}": row.accuracy}
            self._scalars(row.global_epoch, scalars)
            self._epoch = row.global_epoch + 1

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes nothing."""

    def run_ended(self, record: RunRecord) -> None:
        """Writes the test metrics and closes the file."""
        self._scalars(self._epoch, {f"{name}/test": v for name, v in record.test.items()})
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes at a step; where that fails (a full disk) the log says so, and the run goes on."""
        if self._writer is None:
            return
        try:
            with self._writer.as_default(step=step):
                for name, value in scalars.items():
                    self._write(name, float(value), metadata=self._metadata)
            self._writer.flush()
        except self._failure as error:
            log.warning("TensorBoard's files are not written any more: %s", error)
            self._writer = None

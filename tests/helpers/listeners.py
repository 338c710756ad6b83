"""Plays a run to a listener, event by event."""

from finetune.record.schema import MetricRow
from tests.helpers.records import make_record

ROWS = [
    MetricRow(0, "head", 0, 4, "train", 0.1, 0.75, 0.5, 1.0),
    MetricRow(0, "head", 0, 4, "validation", 0.1, 0.5, 0.625, 0.5),
]


def play(listener, record=None):
    """Plays the fifth epoch of a run of one phase.

    Args:
        listener: The listener that hears the events.
        record: Record of the run; None makes one.
    """
    record = make_record() if record is None else record
    phase = record.phases[0]
    listener.run_started(record)
    listener.phase_started(record, phase)
    listener.step(phase, 4, 0, 3, {"loss": 0.9})
    record.history += ROWS
    listener.epoch_ended(record, phase, ROWS)
    listener.phase_ended(record, phase)
    record.status = "completed"
    listener.run_ended(record)

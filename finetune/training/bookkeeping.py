"""What is recorded and logged about a phase, and about the process."""

import logging
import resource
import sys
from collections.abc import Sequence

from finetune.freezing.counts import WeightCounts
from finetune.freezing.plan import FreezePlan
from finetune.record.schema import STATES, MetricRow, PhaseRecord, count_text, non_trainable
from finetune.schedule.phase import Phase

log = logging.getLogger(__name__)


def phase_record(
    index: int,
    phase: Phase,
    counts: WeightCounts,
    stage_names: Sequence[str],
    plan: FreezePlan,
) -> PhaseRecord:
    """Returns the record of a phase before its first step."""
    rates = phase.stage_rates(stage_names)
    return PhaseRecord(
        index=index,
        name=phase.name,
        policy=str(phase.policy),
        batch_norm=phase.batch_norm,
        epochs_planned=phase.epochs,
        learning_rates={n: rates[n] for n in stage_names if n not in plan.inactive_stages},
        weight_counts=counts.total,
        stages=[{"name": name, **states} for name, states in counts.stages.items()],
        random_seeds=counts.random_seeds,
        monitor=phase.monitor,
    )


def log_counts(phase: Phase, counts: WeightCounts) -> None:
    """Logs the weights and parameters of a phase by state, in total and by stage."""
    for scope, states in [("total", counts.total), *counts.stages.items()]:
        shown = {state: states[state] for state in STATES} | {
            "non-trainable": non_trainable(states)
        }
        cells = ", ".join(
            f"{state} {count['weights']} weights / {count['parameters']} parameters"
            for state, count in shown.items()
        )
        log.info("phase %s, %s: %s", phase.name, scope, cells)
    log.info(
        "phase %s: trainable %s, non-trainable %s (weights / parameters)",
        phase.name,
        count_text(counts.total["trainable"]),
        count_text(non_trainable(counts.total)),
    )


def log_epoch(phase: PhaseRecord, rows: Sequence[MetricRow]) -> None:
    """Logs the metrics of an epoch on one line."""
    cells = ", ".join(
        f"{row.split} loss {row.loss:.6g}, accuracy {row.accuracy:.4f}" for row in rows
    )
    if phase.monitored:
        cells += f", {phase.monitor} {phase.monitored[-1]:.6g}"
    log.info(
        "phase %s, epoch %d of %d: %s, %.1f s",
        phase.name,
        phase.epochs_run,
        phase.epochs_planned,
        cells,
        sum(row.seconds for row in rows),
    )


def peak_memory_bytes() -> int:
    """Returns the largest amount of memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

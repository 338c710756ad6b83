"""What is written down of a phase before it trains, and of the process."""

import logging
import resource
import sys
from collections.abc import Sequence

from finetune.freezing.counts import WeightCounts
from finetune.freezing.plan import FreezePlan
from finetune.freezing.schedule import Phase
from finetune.record import PhaseRecord

log = logging.getLogger(__name__)


def phase_record(
    index: int,
    phase: Phase,
    counts: WeightCounts,
    stage_names: Sequence[str],
    plan: FreezePlan,
) -> PhaseRecord:
    """Returns the record of a phase as it is before its first step."""
    rates = phase.stage_rates(stage_names)
    return PhaseRecord(
        index=index,
        name=phase.name,
        policy=str(phase.rule),
        batch_norm=phase.batch_norm,
        epochs_planned=phase.epochs,
        learning_rates={n: rates[n] for n in stage_names if n not in plan.inactive_stages},
        weight_counts=counts.total,
        stages=[{"name": name, **states} for name, states in counts.stages.items()],
        random_seeds=counts.random_seeds,
    )


def log_counts(phase: Phase, counts: WeightCounts) -> None:
    """Logs the weights and parameters of a phase by state, in all and stage by stage."""
    for scope, states in [("total", counts.total), *counts.stages.items()]:
        cells = ", ".join(
            f"{state} {states[state]['weights']} weights / {states[state]['parameters']} parameters"
            for state in ("trainable", "frozen", "untrainable")
        )
        log.info("phase %s, %s: %s", phase.name, scope, cells)


def peak_memory_bytes() -> int:
    """Returns the most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

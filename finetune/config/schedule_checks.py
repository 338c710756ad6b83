"""Checks of a schedule: its range of depths and the keys of its phases."""

from collections.abc import Iterator

from omegaconf import MISSING

from finetune.config.freeze import check_freeze
from finetune.config.plugins import names
from finetune.config.schema import (
    BATCH_NORM_MODES,
    SOLVERS,
    PhaseConfig,
    ScheduleConfig,
)
from finetune.config.values import choice, number, positive


def check_schedule(schedule: ScheduleConfig) -> Iterator[str]:
    """Yields every problem of a schedule."""
    if not schedule.phases and schedule.from_depth is None:
        yield (
            "schedule must have at least one phase. Received: none. Choose schedule=linear_probe, "
            "progressive or full, or add one: "
            "+schedule.phases.head={epochs: 10, learning_rate: 1e-3, "
            "freeze: {policy: depth, unfreeze_depth: 0}}"
        )
    for name, phase in schedule.phases.items():
        yield from _check_phase(f"schedule.phases.{name}", phase)
    if schedule.from_depth is not None:
        yield from _check_range(schedule)


def _check_range(schedule: ScheduleConfig) -> Iterator[str]:
    first, last = schedule.from_depth, schedule.to_depth
    fix = "Depths count backbone stages from the head; 0 is a linear probe."
    yield from number("schedule.from_depth", first, "at least 0", (first or 0) >= 0, fix)
    yield from number("schedule.to_depth", last, "at least 0", (last or 0) >= 0, fix)
    if first is not None and last is not None and 0 <= last < first:
        yield (
            f"schedule.to_depth must be at least schedule.from_depth ({first}). Received: {last}. "
            "Progressive unfreezing grows; swap the two."
        )
    yield from positive("schedule.epochs_per_phase", schedule.epochs_per_phase, "2 is usual.")
    yield from _check_keys("schedule", schedule)


def _check_keys(where: str, phase: PhaseConfig | ScheduleConfig) -> Iterator[str]:
    if phase.learning_rate == MISSING:
        yield (
            f"{where}.learning_rate must be a finite number above 0. Received: nothing. "
            f"Add {where}.learning_rate=1e-3."
        )
    else:
        fix = "1e-3 suits a new head, 1e-4 pretrained weights."
        yield from positive(f"{where}.learning_rate", float(phase.learning_rate), fix)
    decay = phase.stage_lr_decay
    ok = 0 < decay <= 1
    fix = "1 gives every stage the same rate, 0.5 halves it stage by stage below the head."
    yield from number(f"{where}.stage_lr_decay", decay, "in (0, 1]", ok, fix)
    yield from choice(f"{where}.batch_norm", "a BatchNorm mode", phase.batch_norm, BATCH_NORM_MODES)
    yield from choice(f"{where}.monitor", "a metric", phase.monitor, names("metrics"))
    yield from positive(f"{where}.patience", phase.patience, "null trains all epochs.")


def _check_phase(where: str, phase: PhaseConfig) -> Iterator[str]:
    if phase.epochs == MISSING:
        yield (
            f"{where}.epochs must be a whole number of at least 1. Received: nothing. "
            f"Add {where}.epochs=5."
        )
    else:
        yield from positive(
            f"{where}.epochs", phase.epochs, f"To leave the phase out, write ~{where}."
        )
    yield from _check_keys(where, phase)
    yield from choice(f"{where}.solver", "a solver", phase.solver, SOLVERS)
    if phase.solver == "lbfgs" and phase.patience is not None:
        yield (
            f"{where}.patience must be null for solver lbfgs, which runs to its optimum. "
            f"Received: {phase.patience}. Set {where}.patience=null, or {where}.solver=gradient."
        )
    yield from check_freeze(phase.freeze, f"{where}.freeze")

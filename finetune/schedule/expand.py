"""From the schedule of a config to its phases in order, and back to a config of explicit phases."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from finetune.config.freeze import as_mapping, make_policy
from finetune.config.schema import PhaseConfig, PhaseKeys, ScheduleConfig
from finetune.errors import ConfigError
from finetune.schedule.phase import Phase


def expand(schedule: ScheduleConfig, stage_names: Sequence[str]) -> tuple[Phase, ...]:
    """Returns the explicit phases, then one phase for each unfreeze depth of the range.

    Args:
        schedule: The schedule of a config that `finetune.config.checks` has accepted.
        stage_names: Backbone stages from input to output, then the head. A generated phase has
            the name of the stage that it unfreezes (``head`` for depth 0).

    Raises:
        ConfigError: If the range leaves the backbone, or if a generated name is taken.
    """
    *backbone, head = stage_names
    phases = [_explicit(name, phase) for name, phase in schedule.phases.items()]
    if schedule.from_depth is not None:
        last = len(backbone) if schedule.to_depth is None else schedule.to_depth
        if not schedule.from_depth <= last <= len(backbone):
            raise ConfigError(
                f"schedule.from_depth..to_depth must be within 0..{len(backbone)} (the backbone "
                f"has {len(backbone)} stages). Received: {schedule.from_depth}..{last}. "
                f"Use {len(backbone)} or null to end with every stage."
            )
        for depth in range(schedule.from_depth, last + 1):
            name = head if depth == 0 else backbone[len(backbone) - depth]
            if name in schedule.phases:
                raise ConfigError(
                    f"schedule.phases.{name} must have another name: schedule.from_depth.."
                    f"to_depth generates a phase of that name. Received: {name}. Rename it."
                )
            policy = make_policy({"policy": "depth", "unfreeze_depth": depth}, "schedule")
            rate = float(schedule.learning_rate)
            keys = _shared(schedule)
            phases.append(
                Phase(name, schedule.epochs_per_phase, rate, policy, is_generated=True, **keys)
            )
    return tuple(phases)


def _explicit(name: str, phase: PhaseConfig) -> Phase:
    return Phase(
        name,
        epochs=1 if phase.solver == "lbfgs" else phase.epochs,
        learning_rate=float(phase.learning_rate),
        policy=make_policy(phase.freeze, f"schedule.phases.{name}.freeze"),
        solver=phase.solver,
        **_shared(phase),
    )


def _shared(keys: PhaseKeys) -> dict[str, Any]:
    return {key.name: getattr(keys, key.name) for key in fields(PhaseKeys)}


def as_config(phases: Sequence[Phase]) -> dict[str, Any]:
    """Returns the expanded schedule as an explicit one, to be saved, edited and used again."""
    return {
        "phases": {
            phase.name: {
                "epochs": phase.epochs,
                "freeze": as_mapping(phase.policy),
                "learning_rate": phase.learning_rate,
                **_shared(phase),
                "solver": phase.solver,
            }
            for phase in phases
        }
    }

"""The schedule: an ordered tuple of phases, expanded from explicit ones and a range of depths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.config.schema import FreezeConfig, PhaseConfig, ScheduleConfig
from finetune.errors import ConfigError
from finetune.freezing.policies import FreezeRule


@dataclass(frozen=True)
class Phase:
    """One entry of the schedule.

    Args:
        name: unique in the schedule.
        epochs: passes over the training split, at least 1.
        learning_rate: of the head and the topmost backbone stage, above 0.
        rule: what trains.
        batch_norm: ``inference`` holds the statistics of every backbone BatchNorm; ``train`` wakes
            those whose own weights train.
        stage_lr_decay: in (0, 1]; factor from the rate of one stage to the one below it.
        patience: stop after so many epochs without improvement of `monitor`; None never stops.
        restore_best: end with the weights of the best validation epoch of this phase.
        monitor: ``loss`` or ``accuracy`` on the validation split.
        solver: ``gradient``, or ``lbfgs``: the exact linear head, which counts as one epoch.
    """

    name: str
    epochs: int
    learning_rate: float
    rule: FreezeRule
    batch_norm: str = "inference"
    stage_lr_decay: float = 1.0
    patience: int | None = None
    restore_best: bool = False
    monitor: str = "loss"
    solver: str = "gradient"

    def stage_rates(self, stage_names: Sequence[str]) -> dict[str, float]:
        """Returns the learning rate of each stage; `stage_names` end with the head.

        Discriminative rates as in ULMFiT (Howard & Ruder 2018, section 3.2), stage by stage.
        """
        *backbone, head = stage_names
        rates = {head: self.learning_rate}
        for distance, name in enumerate(reversed(backbone)):
            rates[name] = self.learning_rate * self.stage_lr_decay**distance
        return rates


def expand(schedule: ScheduleConfig, stage_names: Sequence[str]) -> tuple[Phase, ...]:
    """Returns the explicit phases, then one for each unfreeze depth of the range.

    Args:
        schedule: checked by `finetune.config.schema`.
        stage_names: backbone stages from input to output, then the head. A generated phase has
            the name of the stage that it unfreezes (``head`` for depth 0).

    Raises:
        ConfigError: if the range leaves the backbone or a generated name is taken.
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
            phases.append(_generated(name, depth, schedule))
    return tuple(phases)


def _explicit(name: str, phase: PhaseConfig) -> Phase:
    return Phase(
        name=name,
        epochs=1 if phase.solver == "lbfgs" else phase.epochs,
        rule=_rule(phase.freeze),
        solver=phase.solver,
        **_shared(phase),
    )


def _generated(name: str, depth: int, schedule: ScheduleConfig) -> Phase:
    rule = FreezeRule("depth", unfreeze_depth=depth)
    return Phase(name=name, epochs=schedule.epochs_per_phase, rule=rule, **_shared(schedule))


def _rule(freeze: FreezeConfig) -> FreezeRule:
    return FreezeRule(
        policy=freeze.policy,
        unfreeze_depth=freeze.unfreeze_depth,
        stages=tuple(freeze.stages or ()),
        train=tuple(freeze.train or ()),
        freeze=tuple(freeze.freeze or ()),
    )


def _shared(source: PhaseConfig | ScheduleConfig) -> dict[str, Any]:
    keys = ("batch_norm", "stage_lr_decay", "patience", "restore_best", "monitor")
    rate = float(source.learning_rate)
    return {"learning_rate": rate, **{key: getattr(source, key) for key in keys}}


def as_config(phases: Sequence[Phase]) -> dict[str, Any]:
    """Returns the expanded schedule as an explicit one, to be saved, edited and used again."""
    result: dict[str, Any] = {}
    for phase in phases:
        rule: dict[str, Any] = {"policy": phase.rule.policy}
        for key in ("unfreeze_depth", "stages", "train", "freeze"):
            value = getattr(phase.rule, key)
            if value not in (None, ()):
                rule[key] = list(value) if isinstance(value, tuple) else value
        result[phase.name] = {"epochs": phase.epochs, "freeze": rule, **_shared_of(phase)}
    return {"phases": result}


def _shared_of(phase: Phase) -> dict[str, Any]:
    keys = ("learning_rate", "batch_norm", "stage_lr_decay", "patience", "restore_best", "monitor")
    return {key: getattr(phase, key) for key in (*keys, "solver")}

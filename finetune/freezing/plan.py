"""Freeze plans: a rule resolved on one model, every weight in exactly one state. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from finetune.freezing.inventory import HEAD, WeightInfo
from finetune.freezing.policies import resolve
from finetune.freezing.schedule import Phase


class State(StrEnum):
    """What a phase does with a weight."""

    TRAINABLE = "trainable"
    FROZEN = "frozen"
    UNTRAINABLE = "untrainable"


@dataclass(frozen=True)
class FreezePlan:
    """What one phase does with every weight of one model.

    Args:
        states: the state of every weight, by path, in model order.
        inactive_stages: stages in which nothing trains; all their layers run in inference mode.
        held_norms: layer indices of normalization layers that keep their statistics.
        still: paths of the weights that must not change in this phase.
    """

    states: Mapping[str, State]
    inactive_stages: frozenset[str]
    held_norms: frozenset[int]
    still: tuple[str, ...]

    @property
    def trainable(self) -> frozenset[str]:
        """Paths of the weights that the optimizer updates."""
        return frozenset(p for p, state in self.states.items() if state is State.TRAINABLE)


def make_plan(
    phase: Phase, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str | None = None
) -> FreezePlan:
    """Resolves the rule of `phase` on the weights `infos`.

    Raises:
        ConfigError: see `finetune.freezing.policies.resolve`.
    """
    where = f"schedule.phases.{phase.name}.freeze" if where is None else where
    trainable = resolve(phase.rule, infos, stage_names, where)
    states = {info.path: _state(info, trainable) for info in infos}
    active = {info.stage for info in infos if info.path in trainable}
    inactive = frozenset(stage_names) - active
    awake = {info.layer for info in infos if info.is_norm and info.path in trainable}
    held_norms = frozenset(
        info.layer
        for info in infos
        if info.is_norm
        and (info.layer not in awake or (phase.batch_norm == "inference" and info.stage != HEAD))
    )
    still = tuple(
        info.path
        for info in infos
        if states[info.path] is State.FROZEN
        or (
            states[info.path] is State.UNTRAINABLE
            and (info.stage in inactive or info.layer in held_norms)
        )
    )
    return FreezePlan(states, inactive, held_norms, still)


def _state(info: WeightInfo, trainable: frozenset[str]) -> State:
    if not info.can_train:
        return State.UNTRAINABLE
    return State.TRAINABLE if info.path in trainable else State.FROZEN

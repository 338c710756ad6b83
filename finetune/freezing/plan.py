"""Freeze plans: a policy resolved on one model, with every weight in exactly one state. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from finetune.backbones import HEAD
from finetune.config import plugins
from finetune.errors import ConfigError
from finetune.freezing.policy import Policy, WeightInfo
from finetune.freezing.upkeep import Upkeep


class State(StrEnum):
    """What a phase does with a weight."""

    TRAINABLE = "trainable"
    FROZEN = "frozen"
    UNTRAINABLE = "untrainable"


@dataclass(frozen=True)
class FreezePlan:
    """What one phase does with every weight of one model.

    Args:
        states: State of every weight by path, in model order.
        inactive_stages: Stages in which nothing trains; all their layers run in inference mode.
        held_layers: Indices of layers in other stages that run in inference mode because they would
            write to held weights, such as BatchNorms that keep their statistics.
        held_weights: Paths of the weights that must not change in this phase.
    """

    states: Mapping[str, State]
    inactive_stages: frozenset[str]
    held_layers: frozenset[int]
    held_weights: tuple[str, ...]

    @property
    def trainable(self) -> frozenset[str]:
        """Paths of the weights that the optimizer updates."""
        return frozenset(p for p, state in self.states.items() if state is State.TRAINABLE)


class Planned(Protocol):
    """What a plan needs to know about a phase of the schedule."""

    @property
    def name(self) -> str:
        """Unique in the schedule."""
        ...

    @property
    def policy(self) -> Policy:
        """Decides which weights train."""
        ...

    @property
    def batch_norm(self) -> str:
        """``inference`` or ``train``."""
        ...


def make_plan(
    phase: Planned,
    infos: Sequence[WeightInfo],
    stage_names: Sequence[str],
    upkeep: Sequence[Upkeep],
) -> FreezePlan:
    """Resolves the policy of `phase` on the weights `infos`.

    Args:
        phase: Phase of the schedule.
        infos: Descriptions of every weight of the model.
        stage_names: Backbone stages from input to output, then the head.
        upkeep: What layers write to in their own call.

    Raises:
        ConfigError: As for `resolve`, and if the plan has to hold a layer that cannot be held.
    """
    where = f"schedule.phases.{phase.name}.freeze"
    trainable = resolve(phase.policy, infos, stage_names, where)
    states = {info.path: _state(info, trainable) for info in infos}
    active = {info.stage for info in infos if info.path in trainable}
    inactive = frozenset(stage_names) - active
    held = [writer for writer in upkeep if _is_held(writer, states, inactive, phase.batch_norm)]
    unholdable = [writer for writer in held if writer.always]
    if unholdable:
        raise ConfigError([_unholdable(where, writer) for writer in unholdable])
    written = {path for writer in upkeep if writer not in held for path in writer.writes}
    held_weights = tuple(
        path
        for path, state in states.items()
        if state is State.FROZEN or (state is State.UNTRAINABLE and path not in written)
    )
    return FreezePlan(states, inactive, frozenset(writer.layer for writer in held), held_weights)


def resolve(
    policy: Policy, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str
) -> frozenset[str]:
    """Returns the paths of the weights that train.

    Args:
        policy: Selects them.
        infos: Every weight of the model.
        stage_names: Backbone stages from input to output, then ``head``.
        where: Config path of the policy, for messages.

    Raises:
        ConfigError: If the policy does not fit the model, selects what is no weight of it, or leaves
            nothing to train.
    """
    with plugins.guarded("policies", policy.name, f"{where}.policy"):
        chosen = set(policy.select(infos, stage_names, where))
    unknown = sorted(chosen.difference(info.path for info in infos))
    if unknown:
        raise ConfigError(
            f"{where}.policy must select weights of the model. Received: {policy}, which selects "
            f"{', '.join(map(str, unknown[:3]))}. Return paths of the weights that select() is given."
        )
    trainable = frozenset(info.path for info in infos if info.can_train and info.path in chosen)
    if not trainable:
        raise ConfigError(
            f"{where} must leave something to train. Received: {policy}, which freezes every weight. "
            "Train at least the head."
        )
    return trainable


def _is_held(
    upkeep: Upkeep, states: Mapping[str, State], inactive: frozenset[str], batch_norm: str
) -> bool:
    """Tells whether a phase has to keep a layer from writing to its state."""
    if any(states[path] is State.FROZEN for path in upkeep.writes):
        return True  # as SpectralNormalization would to a frozen kernel
    learns = [states[path] is State.TRAINABLE for path in upkeep.learns]
    trains = any(learns) if learns else upkeep.stage not in inactive
    return not trains or (upkeep.of_data and batch_norm == "inference" and upkeep.stage != HEAD)


def _unholdable(where: str, upkeep: Upkeep) -> str:
    return (
        f"{where} must let layer {upkeep.name} train, or the layer must write to its weights in "
        f"training only. Received: a layer that writes to {', '.join(upkeep.writes)} in inference "
        "mode too, although this phase holds them. Give its call a `training` argument and let it "
        "write only if that is true; or train its stage with batch_norm=train."
    )


def _state(info: WeightInfo, trainable: frozenset[str]) -> State:
    if not info.can_train:
        return State.UNTRAINABLE
    return State.TRAINABLE if info.path in trainable else State.FROZEN

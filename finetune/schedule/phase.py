"""One phase of the schedule, as a model is trained through it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from finetune.config.schema import PhaseKeys
from finetune.freezing.policy import Policy
from finetune.schedule.rates import stage_rates


@dataclass(frozen=True)
class Phase(PhaseKeys):
    """One entry of the schedule; it also has every key of `PhaseKeys`.

    Args:
        name: Unique in the schedule.
        epochs: Passes over the training split, at least 1.
        learning_rate: Rate of the head and of the topmost backbone stage, above 0.
        policy: Decides which weights train.
        solver: ``gradient``, or ``lbfgs``: the exact linear head, which counts as one epoch.
        is_generated: Whether it comes from the range of depths and has no entry of its own.
    """

    name: str
    epochs: int
    learning_rate: float
    policy: Policy
    solver: str = field(default="gradient", kw_only=True)
    is_generated: bool = field(default=False, kw_only=True, compare=False)

    @property
    def where(self) -> str:
        """Config path of its keys, for messages."""
        return "schedule" if self.is_generated else f"schedule.phases.{self.name}"

    def stage_rates(self, stage_names: Sequence[str]) -> dict[str, float]:
        """Returns the learning rate of each stage; `stage_names` end with the head."""
        return stage_rates(self.learning_rate, self.stage_lr_decay, stage_names)

"""The policy ``none``: nothing is frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.freezing.policy import Policy, WeightInfo


@dataclass(frozen=True)
class NothingFrozen(Policy):
    """Freeze nothing; every weight that can train trains."""

    name: ClassVar[str] = "none"

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns every weight."""
        return {weight.path for weight in weights}


POLICY = NothingFrozen

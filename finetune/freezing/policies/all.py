"""The policy ``all``: all of the backbone is frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.freezing.policy import Policy, WeightInfo, with_head


@dataclass(frozen=True)
class All(Policy):
    """Freeze all of the backbone; only the head trains (a linear probe)."""

    name: ClassVar[str] = "all"

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the weights of the head."""
        return with_head(weights, lambda weight: False)


POLICY = All

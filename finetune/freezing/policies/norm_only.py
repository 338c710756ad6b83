"""The policy ``norm_only``: normalization layers train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.freezing.policy import Policy, WeightInfo, with_head


@dataclass(frozen=True)
class NormOnly(Policy):
    """Train the scale and offset of normalization layers; freeze the rest."""

    name: ClassVar[str] = "norm_only"

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the weights of normalization layers and of the head."""
        return with_head(weights, lambda weight: weight.is_norm)


POLICY = NormOnly

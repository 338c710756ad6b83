"""The policy ``bias_only``: biases and offsets train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.freezing.policy import Policy, WeightInfo, with_head


@dataclass(frozen=True)
class BiasOnly(Policy):
    """Train biases and normalization offsets everywhere (BitFit); freeze the rest."""

    name: ClassVar[str] = "bias_only"

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the biases, the offsets and the weights of the head."""
        return with_head(weights, lambda weight: weight.is_bias)


POLICY = BiasOnly

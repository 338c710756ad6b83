"""The policy ``stages``: named stages train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.errors import ConfigError, unknown_name
from finetune.freezing.policy import Policy, WeightInfo, with_head


@dataclass(frozen=True)
class Stages(Policy):
    """Train the named backbone `stages`, wherever they are (surgical fine-tuning).

    Args:
        stages: Names of the backbone stages that train.
    """

    name: ClassVar[str] = "stages"
    stages: tuple[str, ...]

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the weights of the named stages and of the head."""
        trainable = {weight.stage for weight in weights if weight.can_train}
        problems = []
        for name in self.stages:
            if name not in stage_names:
                problems.append(unknown_name(f"{where}.stages", "stage names", name, stage_names))
            elif name not in trainable:
                problems.append(
                    f"{where}.stages must name stages with weights that can train. Received: "
                    f"{name}, which has none. Remove it."
                )
        if problems:
            raise ConfigError(problems)
        return with_head(weights, lambda weight: weight.stage in self.stages)


POLICY = Stages

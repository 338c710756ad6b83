"""The policy ``depth``: the last stages train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.backbones import HEAD
from finetune.config.values import number
from finetune.errors import ConfigError
from finetune.freezing.policy import Policy, WeightInfo, with_head


@dataclass(frozen=True)
class Depth(Policy):
    """Train the last `unfreeze_depth` backbone stages, counted from the head; 0 is a linear probe.

    Args:
        unfreeze_depth: How many backbone stages train, counted from the head; 0 trains the head alone.
    """

    name: ClassVar[str] = "depth"
    unfreeze_depth: int

    def problems(self, where: str) -> list[str]:
        """Checks that the depth is not negative."""
        fix = "0 is a linear probe; 1 trains the stage below the head too."
        depth = self.unfreeze_depth
        return list(number(f"{where}.unfreeze_depth", depth, "at least 0", depth >= 0, fix))

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the weights of the last stages and of the head."""
        backbone = [name for name in stage_names if name != HEAD]
        total, depth = len(backbone), self.unfreeze_depth
        if not 0 <= depth <= total:
            raise ConfigError(
                f"{where}.unfreeze_depth must be 0..{total} (the backbone has {total} stages: "
                f"{', '.join(backbone)}{_repeated(weights)}). Received: {depth}. Use {total} to "
                "train every stage."
            )
        unfrozen = set(backbone[total - depth :])
        return with_head(weights, lambda weight: weight.stage in unfrozen)


def _repeated(weights: Sequence[WeightInfo]) -> str:
    """Names the stages that run more than once, as in ALBERT; a depth counts each of them once."""
    uses = {weight.stage: weight.uses for weight in weights if weight.uses > 1}
    named = ", ".join(f"{stage} {number} times" for stage, number in uses.items())
    return f"; it runs {named} with the same weights" if uses else ""


POLICY = Depth

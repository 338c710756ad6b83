"""What a freeze policy is, and what it may know of a weight.

Importing this module loads neither Keras nor TensorFlow, so that a mistake in a config is reported
at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from finetune.backbones import HEAD


@dataclass(frozen=True)
class WeightInfo:
    """Describes one weight of a task model; holds no Keras object.

    Args:
        path: Unique name; Keras' own ``variable.path`` where that is unique.
        stage: Name of the backbone stage that the weight is in, or ``head``.
        layer: Index of the layer in `Inventory.layers`.
        parameters: Number of scalars.
        can_train: False where the layer made the weight non-trainable (BatchNorm statistics,
            constants, quantised kernels, kernels below LoRA).
        is_bias: Whether it is a bias, or the offset of a normalization layer.
        is_norm: Whether it belongs to a normalization layer.
        uses: How often one forward pass runs the stage; above 1 where blocks share weights.
    """

    path: str
    stage: str
    layer: int
    parameters: int
    can_train: bool = True
    is_bias: bool = False
    is_norm: bool = False
    uses: int = 1


class Policy(ABC):
    """Decides which weights of a model train in a phase; the others are frozen.

    Subclass it as a frozen dataclass. Its fields are the keys that a config may set beside
    ``policy``: numbers, booleans, texts, or lists (``tuple[str, ...]``) of these; a field without a
    default is a key that the config must give. The first paragraph of the docstring describes the
    policy in ``catalog policies`` and in the documentation, and its ``Args`` describe the keys.

    >>> @dataclass(frozen=True)
    ... class Wide(Policy):
    ...     "Train the weights with at least `parameters` scalars."
    ...     name: ClassVar[str] = "wide"
    ...     parameters: int
    ...     def select(self, weights, stage_names, where):
    ...         return with_head(weights, lambda weight: weight.parameters >= self.parameters)
    >>> weights = [WeightInfo("conv/kernel", "stage1", 0, 36), WeightInfo("conv/bias", "stage1", 0, 4)]
    >>> Wide(9).select(weights, ("stage1", "head"), "freeze")
    {'conv/kernel'}
    >>> print(Wide(9))
    wide(9)
    """

    name: ClassVar[str]
    """What ``policy:`` of a config calls it; an entry point must have the same name."""

    def problems(self, where: str) -> list[str]:
        """Returns what is wrong with the keys alone, before any model is loaded.

        Args:
            where: Config path of the policy, for messages, e.g. ``schedule.phases.head.freeze``.
        """
        return []

    @abstractmethod
    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the paths of the weights that train; those that cannot train are left out later.

        Args:
            weights: Every weight of the model, in model order.
            stage_names: Backbone stages from input to output, then ``head``.
            where: Config path of the policy, for messages.

        Raises:
            ConfigError: If the policy does not fit the model.
        """

    def __str__(self) -> str:
        keys = fields(self)  # type: ignore[arg-type]
        words = []
        for key in keys:
            value = getattr(self, key.name)
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            if len(keys) == 1:
                words.append(text)
            elif value != key.default:
                words.append(f"{key.name}={text}")
        return f"{self.name}({'; '.join(words)})" if words else self.name


def with_head(weights: Sequence[WeightInfo], keep: Callable[[WeightInfo], bool]) -> set[str]:
    """Returns the paths of the head's weights, and of the backbone's weights that `keep` accepts."""
    return {weight.path for weight in weights if weight.stage == HEAD or keep(weight)}

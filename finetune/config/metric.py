"""What a metric is, for this program's own metrics and for those of plug-ins.

Importing it loads neither NumPy nor TensorFlow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune.errors import ConfigError, unknown_name

DIRECTIONS = ("max", "min")
TASKS = ("single_label", "multi_label")


@dataclass(frozen=True)
class Metric:
    """A number that says how good the predictions for a split are.

    Args:
        compute: Function ``(labels, probabilities) -> float``. ``labels`` is an (n,) int64 array of
            class indices, or an (n, classes) uint8 array of 0 and 1 where an example may have
            several labels. ``probabilities`` is an (n, classes) float64 array: each row sums to 1
            with one label per example; otherwise each value stands for itself. Both are read-only.
        direction: ``max`` if larger is better, ``min`` if smaller is better.
        task: ``single_label`` or ``multi_label`` if the metric is defined for one of them only;
            None if it is defined for both.

    Raises:
        ConfigError: For another direction or task, or if `compute` is no function.
    """

    compute: Callable[[Any, Any], float]
    direction: str = "max"
    task: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not callable(self.compute):
            problems.append(
                "compute must be a function (labels, probabilities). Received: "
                f"{type(self.compute).__name__}. Give the metric a function."
            )
        if self.direction not in DIRECTIONS:
            problems.append(unknown_name("direction", "a direction", self.direction, DIRECTIONS))
        if self.task is not None and self.task not in TASKS:
            problems.append(unknown_name("task", "a task or None", self.task, TASKS))
        if problems:
            raise ConfigError(problems)

    def __call__(self, labels: Any, probabilities: Any) -> float:
        """Returns the metric of a split."""
        return self.compute(labels, probabilities)

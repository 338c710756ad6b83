"""The metric of the validation split that a phase monitors."""

import numpy as np

from finetune.evaluation.named import measured, metric
from finetune.schedule.phase import Phase
from finetune.tasks.objective import Objective
from finetune.training.interrupt import Interrupt, WatchBatches
from finetune.training.phase_data import PhaseData

FROM_EVALUATION = ("loss", "accuracy")  # Keras computes them while it evaluates


class Monitor:
    """Computes the monitored metric of a phase on the validation split.

    Loss and accuracy are those of Keras' evaluation. Any other metric needs the outputs for the whole
    split, which costs one more pass over it after each epoch.

    Args:
        phase: Phase that names the metric.
        objective: What the model is trained for.
        labels: Labels of the validation split, (n,) class indices or (n, classes) of 0 and 1.

    Raises:
        ConfigError: If there is no such metric, or it is not defined for this kind of task.
    """

    def __init__(self, phase: Phase, objective: Objective, labels: np.ndarray) -> None:
        self.name, self._where = phase.monitor, f"schedule.phases.{phase.name}.monitor"
        self._metric = metric(self.name, self._where, objective)
        self._objective, self._labels = objective, labels

    def score(self, value: float) -> float:
        """Returns a value of the metric so that higher is better."""
        return value if self._metric.direction == "max" else -value

    def measure(self, data: PhaseData, interrupt: Interrupt) -> dict[str, float]:
        """Returns the metric by its name; nothing if the evaluation has it already.

        Raises:
            ConfigError: If the metric of a plug-in fails.
            KeyboardInterrupt: After a signal.
        """
        if self.name in FROM_EVALUATION:
            return {}
        outputs = data.model.predict(
            data.validation(),  # type: ignore[arg-type]
            verbose=0,
            callbacks=[WatchBatches(interrupt)],
        )
        labels = self._labels[: len(outputs)]  # `check` reads one batch only
        return measured([self.name], self._where, np.asarray(outputs), labels, self._objective)

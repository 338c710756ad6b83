"""The metric of the validation split that a phase monitors."""

import numpy as np

from finetune.evaluation.named import metric, probabilities_of, value
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
        self.name, self._where = phase.monitor, f"{phase.where}.monitor"
        self._metric = metric(self.name, self._where, objective)
        self._objective, self._labels = objective, labels

    def score(self, found: float) -> float:
        """Returns a value of the metric so that higher is better."""
        return found if self._metric.direction == "max" else -found

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
        probabilities = probabilities_of(np.asarray(outputs), self._objective)
        return {self.name: value(self.name, self._where, labels, probabilities)}

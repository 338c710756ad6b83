"""Metrics that a config names: this program's own, and those of plug-ins."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from finetune.config import plugins
from finetune.config.metric import Metric
from finetune.errors import ConfigError
from finetune.evaluation.metrics import Report
from finetune.tasks.objective import MULTI_LABEL, Objective


def metric(name: str, where: str, objective: Objective) -> Metric:
    """Returns a metric that is defined for the task, and that a small example has been given to.

    Args:
        name: Name of the metric.
        where: Config path that holds the name, for messages.
        objective: Objective that the model is trained for.

    Raises:
        ConfigError: For an unknown or broken metric, and one that is defined for another task.
    """
    found: Metric = plugins.load("metrics", name, where)
    multi_label = objective.kind == MULTI_LABEL
    task = "multi_label" if multi_label else "single_label"
    if found.task not in (None, task):
        others = ", ".join(_fitting(task))
        raise ConfigError(
            f"{where} must be a metric for {task.replace('_', '-')} data. Received: {name}, which "
            f"is for {found.task.replace('_', '-')} data. Use one of {others}."
        )
    number = objective.num_classes
    labels = np.eye(number, dtype=np.uint8) if multi_label else np.arange(number, dtype=np.int64)
    even = np.full((number, number), 0.5 if multi_label else 1 / number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an example that means nothing
        value(name, where, labels, even)
    return found


def with_named(
    found: Report,
    names: Sequence[str],
    outputs: np.ndarray,
    labels: np.ndarray,
    objective: Objective,
) -> Report:
    """Adds the metrics that a config names to a report, unless they are in it; see `measured`."""
    more = [name for name in dict.fromkeys(names) if name not in found.metrics]
    computed = measured(more, "metrics", outputs, labels, objective)
    return replace(found, metrics={**found.metrics, **computed})


def measured(
    names: Iterable[str], where: str, outputs: np.ndarray, labels: np.ndarray, objective: Objective
) -> dict[str, float]:
    """Computes metrics of a split by name.

    Args:
        names: Names of the metrics.
        where: Config path that holds the names, for messages.
        outputs: (n, classes) logits or probabilities, as `objective` says.
        labels: (n,) class indices, or (n, classes) multi-hot rows.
        objective: Objective that the model was trained for.

    Raises:
        ConfigError: For a metric that is unknown, broken, or defined for another task.
    """
    names = list(names)
    for name in names:
        metric(name, where, objective)
    given = probabilities_of(outputs, objective) if names else outputs
    return {name: value(name, where, labels, given) for name in names}


def value(name: str, where: str, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Computes one metric, see `Metric`; it cannot change the arrays.

    Raises:
        ConfigError: For a metric that raises or returns no number; it names the package.
    """
    given = [array.view() for array in (labels, probabilities)]
    for view in given:
        view.flags.writeable = False
    result = plugins.call("metrics", name, where, *given)
    try:
        return float(result)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where} must be a metric that returns a number. Received: {name} of "
            f"{plugins.origin('metrics', name)}, which returned {type(result).__name__}. Let it "
            "return one number for the whole split."
        ) from error


def probabilities_of(outputs: np.ndarray, objective: Objective) -> np.ndarray:
    """Returns outputs as probabilities: sigmoids of a multi-label model, a softmax of any other.

    Args:
        outputs: (n, classes) logits or probabilities, as `objective` says.
        objective: Objective that the model was trained for.

    Returns:
        (n, classes) float64 in [0, 1].
    """
    from scipy.special import expit, softmax

    outputs = np.asarray(outputs, np.float64)
    if not objective.from_logits:
        return outputs
    return expit(outputs) if objective.kind == MULTI_LABEL else softmax(outputs, axis=1)


def _fitting(task: str) -> list[str]:
    """Returns the built-in metrics that are defined for a task."""
    own = plugins.built_in("metrics").items()
    return [name for name, built_in in own if built_in.task in (None, task)]

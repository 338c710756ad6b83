"""Decorators that offer a policy, dataset, backbone, metric or tracker to this process.

They do for a script or a notebook what the entry points of a package do for every process. Importing
this module loads neither Keras nor TensorFlow.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from finetune.config import plugins
from finetune.config.metric import Metric

Entry = TypeVar("Entry", bound=Callable[..., Any])


def policy(name: str) -> Callable[[Entry], Entry]:
    """Registers a freeze policy: a frozen dataclass with ``problems()`` and ``select()``.

    Args:
        name: What ``freeze.policy`` calls it.

    Raises:
        ConfigError: For a name that is taken, or a class of another form.
    """
    return _registering("policies", name)


def dataset(name: str) -> Callable[[Entry], Entry]:
    """Registers a dataset: a function ``(settings, seed)`` that returns `finetune.Splits`.

    Args:
        name: What ``dataset.name`` calls it.

    Raises:
        ConfigError: For a name that is taken.
    """
    return _registering("datasets", name)


def backbone(name: str) -> Callable[[Entry], Entry]:
    """Registers a backbone: a function that returns the directory of a checkpoint.

    Args:
        name: What ``backbone.preset`` calls it.

    Raises:
        ConfigError: For a name that is taken.
    """
    return _registering("backbones", name)


def tracker(name: str) -> Callable[[Entry], Entry]:
    """Registers a tracker: a class or function ``(settings)`` that makes a `finetune.Tracker`.

    Args:
        name: A Python identifier; ``trackers.NAME=true`` turns the tracker on.

    Raises:
        ConfigError: For a name that is taken.
    """
    return _registering("trackers", name)


def metric(
    name: str, direction: str = "max", task: str | None = None
) -> Callable[[Callable[[Any, Any], float]], Metric]:
    """Registers a metric: a function ``(labels, probabilities) -> float``, see `finetune.Metric`.

    Args:
        name: What ``metrics`` and ``monitor`` call it.
        direction: ``max`` if larger is better, ``min`` if smaller is better.
        task: ``single_label`` or ``multi_label`` if it is defined for one of them only.

    Returns:
        A decorator that turns the function into a `finetune.Metric`.

    Raises:
        ConfigError: For a name that is taken, or an unknown direction or task.
    """
    registering = _registering("metrics", name)
    return lambda compute: registering(Metric(compute, direction, task))


def _registering(group: str, name: str) -> Callable[[Entry], Entry]:
    plugins.require_name(group, name)  # at once: `@finetune.metric` without a name is never called

    def register(entry: Entry) -> Entry:
        plugins.register(group, name, entry)
        return entry

    return register

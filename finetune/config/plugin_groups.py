"""The groups of entries that plug-ins extend: what an entry of each is, and the built-in ones.

Importing this module loads neither Keras nor TensorFlow, and none of the entries.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.config.metric import Metric

_METRICS = (
    *("loss", "accuracy", "macro_f1", "micro_f1", "auroc", "top_5_accuracy"),
    *("mean_average_precision", "expected_calibration_error"),
)


def _is_policy(entry: Any) -> bool:
    methods = [getattr(entry, name, None) for name in ("problems", "select")]
    is_frozen = getattr(getattr(entry, "__dataclass_params__", None), "frozen", False)
    return inspect.isclass(entry) and is_frozen and all(map(callable, methods))


def is_metric(entry: Any) -> bool:
    """Tells whether an entry is a metric, whose function is what a user has written."""
    return isinstance(entry, Metric)


@dataclass(frozen=True)
class Group:
    """One group of entries.

    Args:
        kind: What an entry is, with its article, for messages.
        form: The object that an entry point must name, for messages.
        fits: Whether an object has this form.
        built_in: Entries of this program: ``package:attribute``, where each public module of the
            package defines one under this attribute; or ``module:attribute`` by name.
    """

    kind: str
    form: str
    fits: Callable[[Any], bool]
    built_in: str | Mapping[str, str]


GROUPS = {
    "policies": Group(
        "a freeze policy",
        "a frozen dataclass with problems() and select()",
        _is_policy,
        "finetune.freezing.policies:POLICY",
    ),
    "datasets": Group(
        "a dataset",
        "a function (settings, seed)",
        callable,
        {
            name: f"finetune.datasets.load:{name}"
            for name in ("image_folder", "table", "arrays", "digits", "docstrings")
        },
    ),
    "backbones": Group(
        "a backbone",
        "a function without arguments",
        callable,
        {name: f"finetune.backbones.catalog:{name}" for name in ("resnet_mini", "minilm_l6")},
    ),
    "metrics": Group(
        "a metric",
        "a finetune.Metric",
        is_metric,
        {name: f"finetune.evaluation.built_in:{name}" for name in _METRICS},
    ),
    "trackers": Group(
        "a tracker",
        "a class or function (settings) that makes a tracker",
        callable,
        {
            name: f"finetune.reporting.trackers.choice:{name}"
            for name in ("mlflow", "wandb", "trackio")
        },
    ),
    "configs": Group("a folder of configs", "a folder", lambda entry: entry.is_dir(), {}),
}

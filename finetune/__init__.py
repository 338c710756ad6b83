"""Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

`FineTuner` trains a Keras model of your own, and `load` returns the model that a run trained. Everything
else is done on the command line.
"""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, whose import `--help` need not wait for
if TYPE_CHECKING:
    from finetune.config.decorators import backbone, dataset, metric, policy, tracker
    from finetune.config.metric import Metric
    from finetune.datasets.offered import Splits
    from finetune.errors import ConfigError, FrozenWeightsError
    from finetune.freezing.policy import Policy, WeightInfo, with_head
    from finetune.inference.api import LoadedRun, load
    from finetune.record.schema import (
        BackboneRecord,
        DatasetRecord,
        FeatureDecision,
        FrozenProof,
        MetricRow,
        PhaseRecord,
        RunRecord,
    )
    from finetune.reporting.trackers.protocol import TrackedRun, Tracker
    from finetune.runs.finetuner import FineTuner

__version__ = "0.1.0"
__all__ = [
    "BackboneRecord",
    "ConfigError",
    "DatasetRecord",
    "FeatureDecision",
    "FineTuner",
    "FrozenProof",
    "FrozenWeightsError",
    "LoadedRun",
    "Metric",
    "MetricRow",
    "PhaseRecord",
    "Policy",
    "RunRecord",
    "Splits",
    "TrackedRun",
    "Tracker",
    "WeightInfo",
    "__version__",
    "backbone",
    "dataset",
    "load",
    "metric",
    "policy",
    "tracker",
    "with_head",
]
_NEEDS_TENSORFLOW = {
    "FineTuner": "finetune.runs.finetuner",
    "LoadedRun": "finetune.inference.api",
    "load": "finetune.inference.api",
}
_OTHERS = {
    "finetune.config.decorators": ("backbone", "dataset", "metric", "policy", "tracker"),
    "finetune.config.metric": ("Metric",),
    "finetune.datasets.offered": ("Splits",),
    "finetune.freezing.policy": ("Policy", "WeightInfo", "with_head"),
    "finetune.errors": ("ConfigError", "FrozenWeightsError"),
    "finetune.reporting.trackers.protocol": ("TrackedRun", "Tracker"),
}
_MODULES = {name: module for module, names in _OTHERS.items() for name in names}


def __getattr__(name: str) -> object:
    """Imports a public name at its first use, so that `--help` needs no TensorFlow."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _NEEDS_TENSORFLOW:
        from finetune.startup import require_tensorflow

        require_tensorflow()
        return getattr(import_module(_NEEDS_TENSORFLOW[name]), name)
    return getattr(import_module(_MODULES.get(name, "finetune.record.schema")), name)

"""Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

`FineTuner` trains a model of your own; everything else is the command line's.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.finetuner import FineTuner

__version__ = "0.1.0"
__all__ = ["FineTuner", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports the public names at their first use: `--help` needs no TensorFlow."""
    if name == "FineTuner":
        from finetune.finetuner import FineTuner

        return FineTuner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

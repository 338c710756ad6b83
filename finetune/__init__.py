"""Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

`FineTuner` trains a model of your own, and `load` gives back what a run has trained; everything else
is the command line's.
"""

TYPE_CHECKING = False  # as in typing, whose import `--help` need not wait for
if TYPE_CHECKING:
    from finetune.inference.api import load
    from finetune.runs.finetuner import FineTuner

__version__ = "0.1.0"
__all__ = ["FineTuner", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Imports the public names at their first use: `--help` needs no TensorFlow."""
    if name in __all__:
        from finetune.startup import require_tensorflow

        require_tensorflow()
    if name == "FineTuner":
        from finetune.runs.finetuner import FineTuner

        return FineTuner
    if name == "load":
        from finetune.inference.api import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

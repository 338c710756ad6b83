"""Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed."""

__version__ = "0.1.0"

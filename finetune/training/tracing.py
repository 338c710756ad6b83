"""Holds back TensorFlow's warning about retracing where it mistakes several functions for one."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

# Of the warning, and of the functions in which Keras' trainer runs steps.
_WARNING, _KERAS = "triggered tf.function retracing", "<function TensorFlowTrainer."


@contextmanager
def steps_may_be_traced() -> Iterator[None]:
    """Holds the warning back for the steps of Keras' trainer, and for nothing else.

    The set of weights that train is part of a compiled step, so Keras makes new functions whenever a
    model is compiled, for each phase and each model, and traces each of them once. TensorFlow
    counts traces by the code that these functions share. From the fifth compiled model on, it
    mistakes them for one function that is traced again and again.
    """
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_shown)
    try:
        yield
    finally:
        logger.removeFilter(_is_shown)


def traced(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """Returns a compiled function that is already traced, for one signature.

    TensorFlow does not count an explicit trace, so a program that loads several models in turn is
    not warned.

    Args:
        function: Function of tensors.
        signature: A `tf.TensorSpec`, or a structure of them, for each argument.
    """
    compiled: Any = tf.function(function, input_signature=signature)
    compiled.get_concrete_function()
    return compiled


def _is_shown(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not (_WARNING in message and _KERAS in message)

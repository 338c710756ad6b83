"""TensorFlow's warning of too many traces, where it takes several functions for one."""

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

    A compiled step has the weights that train fixed in it, so Keras makes new functions whenever a
    model is compiled: for each phase, and for each model. Each of them is traced once. TensorFlow
    counts traces by the code that these functions share and, from the fifth compiled model on, takes
    them for one function that is traced again and again.
    """
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_shown)
    try:
        yield
    finally:
        logger.removeFilter(_is_shown)


def traced(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """Returns a compiled function that has been traced already, for one signature.

    TensorFlow does not count a trace that is asked for, so a program that loads several models one
    after the other is not warned.

    Args:
        function: of tensors.
        signature: a `tf.TensorSpec`, or a structure of them, for each argument.
    """
    compiled: Any = tf.function(function, input_signature=signature)
    compiled.get_concrete_function()
    return compiled


def _is_shown(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not (_WARNING in message and _KERAS in message)

"""TensorFlow's warning of too many traces: silent where each function is traced once, else heard."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.training.tracing import steps_may_be_traced, traced


@pytest.fixture
def heard(monkeypatch):
    """Returns what TensorFlow has warned of so far."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "handlers", [handler])
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield messages
    logger.setLevel(level)


def test_models_that_are_compiled_one_after_the_other_are_no_fault(heard):
    with steps_may_be_traced():
        for _ in range(7):
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse")
            model.fit(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    assert heard == []


def test_a_function_that_is_traced_again_and_again_is_still_named(heard):
    @tf.function
    def doubled(number):
        return tf.constant(2 * number)

    with steps_may_be_traced():
        for number in range(7):  # each Python number is another trace
            doubled(number)
    assert heard and "triggered tf.function retracing" in heard[0]


def test_outside_of_a_run_the_warning_is_tensorflows_own():
    before = list(logging.getLogger("tensorflow").filters)
    with pytest.raises(KeyError), steps_may_be_traced():
        raise KeyError
    assert logging.getLogger("tensorflow").filters == before


def test_what_is_traced_at_once_is_not_counted(heard):
    for factor in range(7):

        def times(number, factor=factor):
            return number * factor

        program = traced(times, [tf.TensorSpec((), tf.int32)])
        assert int(program(tf.constant(3))) == 3 * factor
        assert program.experimental_get_tracing_count() == 1
    assert heard == []

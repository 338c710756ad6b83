"""Turns a stream of examples into predictions in the same order, in constant memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.evaluation.named import probabilities_of
from finetune.inference.examples import Example, Failure, Prediction
from finetune.inference.inputs import Prepared, inputs_of
from finetune.inference.trained import TrainedModel
from finetune.keras_internals import input_structure
from finetune.training.tracing import traced


class Predictor:
    """Predicts examples with a trained model, batch by batch.

    Args:
        trained: Model to predict with.
        batch_size: Number of examples per batch, at least 1.
        ahead: Number of images to read ahead; None for two batches.
    """

    def __init__(self, trained: TrainedModel, batch_size: int, ahead: int | None = None) -> None:
        self._objective = trained.objective
        self._batch_size = batch_size
        self._inputs = inputs_of(trained, 2 * batch_size if ahead is None else ahead)
        self._forward = forward(trained)

    def __call__(
        self, examples: Iterable[Example | Failure]
    ) -> Iterator[list[Prediction | Failure]]:
        """Yields the predictions of a batch in order, with a `Failure` for each unreadable example.

        Args:
            examples: Examples to predict, consumed only as far as needed.
        """
        batch: list[Prepared] = []
        number = 0
        for prepared in self._inputs.prepared(examples):
            batch.append(prepared)
            number += not isinstance(prepared, Failure)
            if number == self._batch_size or len(batch) == 2 * self._batch_size:
                yield list(self._answers(batch))
                batch, number = [], 0
        if batch:
            yield list(self._answers(batch))

    def _answers(self, batch: Sequence[Prepared]) -> Iterator[Prediction | Failure]:
        inputs = [prepared[1] for prepared in batch if not isinstance(prepared, Failure)]
        rows = iter(())
        if inputs:
            outputs = self._forward(self._inputs.batch(inputs))
            rows = iter(probabilities_of(outputs, self._objective))
        for prepared in batch:
            if isinstance(prepared, Failure):
                yield prepared
                continue
            example = prepared[0]
            text = example.content if isinstance(example.content, str) else None
            yield Prediction(example.source, next(rows), text)


def forward(trained: TrainedModel) -> Callable[[Any], np.ndarray]:
    """Returns the function from a batch of inputs to the outputs of a model.

    It is traced once; batches of other sizes and longer texts do not retrace it.

    Returns:
        Function from (batch, …) arrays in the structure of the model's inputs to (batch, classes)
        float32.
    """
    wanted = input_structure(trained.model)
    if isinstance(wanted, list | tuple):
        wanted = wanted[0] if len(wanted) == 1 else tuple(wanted)
    specs = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype), wanted
    )

    def call(inputs: Any) -> Any:
        return tf.cast(trained.model(inputs, training=False), tf.float32)

    compiled = traced(call, [specs])

    def run(inputs: Any) -> np.ndarray:
        cast = tf.nest.map_structure(lambda spec, x: tf.cast(x, spec.dtype), specs, inputs)
        return compiled(cast).numpy()

    return run

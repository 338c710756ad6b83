"""From a stream of examples to predictions, in order, in memory that does not grow with their number."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from finetune.datasets.python.data import wanted_inputs
from finetune.inference.examples import Example, Failure, Prediction
from finetune.inference.inputs import Prepared, inputs_of
from finetune.inference.trained import TrainedModel
from finetune.tasks.objective import MULTI_LABEL, Objective
from finetune.training.tracing import traced


class Predictor:
    """Asks a trained model about examples, a batch at a time.

    Args:
        trained: the model.
        batch_size: examples that are computed at once, at least 1.
        ahead: images that are read before they are asked for; None: twice a batch.
    """

    def __init__(self, trained: TrainedModel, batch_size: int, ahead: int | None = None) -> None:
        self._objective = trained.objective
        self._batch_size = batch_size
        self._inputs = inputs_of(trained, 2 * batch_size if ahead is None else ahead)
        self._forward = forward(trained)

    def __call__(
        self, examples: Iterable[Example | Failure]
    ) -> Iterator[list[Prediction | Failure]]:
        """Yields, batch by batch, a prediction of each example, or why there is none, in their order.

        Args:
            examples: any number; no more are taken than are worked on.
        """
        held: list[Prepared] = []
        number = 0
        for each in self._inputs.prepared(examples):
            held.append(each)
            number += not isinstance(each, Failure)
            if number == self._batch_size or len(held) == 2 * self._batch_size:
                yield list(self._answers(held))
                held, number = [], 0
        if held:
            yield list(self._answers(held))

    def _answers(self, held: Sequence[Prepared]) -> Iterator[Prediction | Failure]:
        inputs = [each[1] for each in held if not isinstance(each, Failure)]
        answers = iter(())
        if inputs:
            outputs = self._forward(self._inputs.batch(inputs))
            answers = iter(probabilities(outputs, self._objective))
        for each in held:
            if isinstance(each, Failure):
                yield each
                continue
            content = each[0].content
            text = content if isinstance(content, str) else None
            yield Prediction(each[0].source, next(answers), text)


def forward(trained: TrainedModel) -> Callable[[Any], np.ndarray]:
    """Returns the function from a batch of inputs to the outputs of a model.

    It is traced once: a batch of another size, or of longer texts, changes no program.

    Returns:
        (batch, …) arrays in the structure of the model's inputs -> (batch, classes) float32.
    """
    wanted = wanted_inputs(trained.model)
    if isinstance(wanted, list | tuple):
        wanted = wanted[0] if len(wanted) == 1 else tuple(wanted)
    specs = tf.nest.map_structure(
        lambda each: tf.TensorSpec((None, *each.shape[1:]), each.dtype), wanted
    )

    def call(inputs: Any) -> Any:
        return tf.cast(trained.model(inputs, training=False), tf.float32)

    compiled = traced(call, [specs])

    def run(inputs: Any) -> np.ndarray:
        cast = tf.nest.map_structure(lambda spec, x: tf.cast(x, spec.dtype), specs, inputs)
        return compiled(cast).numpy()

    return run


def probabilities(outputs: np.ndarray, objective: Objective) -> np.ndarray:
    """Returns outputs as probabilities: a softmax of one label, a sigmoid each of several.

    Args:
        outputs: (n, classes) logits or probabilities, as `objective` says.
        objective: what the model was trained for.

    Returns:
        (n, classes) float64 in [0, 1].
    """
    outputs = np.asarray(outputs, np.float64)
    if not objective.from_logits:
        return outputs
    if objective.kind == MULTI_LABEL:
        return 1 / (1 + np.exp(-np.clip(outputs, -500, 500)))
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

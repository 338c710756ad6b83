"""The preprocessor of a KerasHub task in FineTuner, applied once to raw examples."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from finetune.errors import ConfigError

_ROWS = 64
_COMPARED = 8


def preprocessor_of(model: keras.Model) -> Any:
    """Returns the preprocessor that a KerasHub task applies to its examples, or None.

    Raises:
        ConfigError: If it could not be saved with the model.
    """
    preprocessor = model.preprocessor if isinstance(model, keras_hub.models.Task) else None  # type: ignore[attr-defined]
    if preprocessor is None or isinstance(preprocessor, keras.Layer):
        return preprocessor
    raise ConfigError(
        "model.preprocessor must be a KerasHub preprocessor or another layer, which is saved with "
        f"the model. Received: {type(preprocessor).__name__}. Set model.preprocessor = None, and "
        "pass inputs as the model itself takes them."
    )


@contextmanager
def set_aside(model: Any) -> Iterator[None]:
    """Removes the preprocessor of a task inside the block, for examples that are preprocessed."""
    if not isinstance(model, keras_hub.models.Task):
        yield
        return
    preprocessor = model.preprocessor
    model.preprocessor = None
    try:
        yield
    finally:
        model.preprocessor = preprocessor


def preprocessed(given: Mapping[str, Any], preprocessor: Any) -> dict[str, Any]:
    """Returns the splits with inputs as the model takes them.

    Args:
        given: Data of each split: (inputs, labels), or a `tf.data.Dataset` or
            `keras.utils.PyDataset` of such pairs, with raw inputs as the task's own ``fit`` takes
            them. Anything else is returned unchanged.
        preprocessor: Layer from raw inputs to the inputs of the model; None changes nothing.

    Raises:
        ConfigError: If the preprocessor does not take the inputs, changes labels, or is random.
    """
    if preprocessor is None:
        return dict(given)
    return {name: _split(name, data, preprocessor) for name, data in given.items()}


def _split(name: str, data: Any, preprocessor: Any) -> Any:
    try:
        if isinstance(data, tf.data.Dataset):
            if not isinstance(data.element_spec, tuple) or len(data.element_spec) != 2:
                return data
            with suppress(
                tf.errors.OpError
            ):  # of the dataset itself, reported when all of it is read
                for inputs, labels in data.take(_COMPARED):
                    _require_steady(preprocessor, inputs, labels)
            return data.map(lambda x, y: (_applied(preprocessor, x, y)[0], y))
        if isinstance(data, keras.utils.PyDataset):
            return _Preprocessed(data, preprocessor)
        if not isinstance(data, tuple) or len(data) != 2:
            return data
        inputs = _leaves(np.asarray, data[0])
        few = _leaves(lambda array: tf.constant(array[:_COMPARED]), inputs)
        _require_steady(preprocessor, few, tf.range(len(keras.tree.flatten(few)[0])))
        numbers = np.arange(len(keras.tree.flatten(inputs)[0]))
        rows = tf.data.Dataset.from_tensor_slices((inputs, numbers)).batch(_ROWS)
        parts = list(rows.map(lambda x, y: _applied(preprocessor, x, y)[0]).as_numpy_iterator())
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - preprocessors raise all kinds of errors
        said = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"{name} must be raw examples for model.preprocessor, as in Keras' own fit. Received: "
            f"{type(error).__name__}: {said}. Pass raw examples; or set model.preprocessor = None, "
            "and pass inputs as the model itself takes them."
        ) from error
    if not parts:
        return data
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts), data[1]


class _Preprocessed(keras.utils.PyDataset):
    """A dataset whose batches are preprocessed."""

    def __init__(self, data: keras.utils.PyDataset, preprocessor: Any) -> None:
        super().__init__()
        self._data, self._preprocessor = data, preprocessor

    @property
    def num_batches(self) -> Any:  # None if it is infinite
        """The number of batches of the dataset itself."""
        return self._data.num_batches

    def __getitem__(self, index: int) -> Any:
        batch = self._data[index]
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            return batch
        return _split("a batch", tuple(batch), self._preprocessor)


def _applied(preprocessor: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
    """Returns inputs and labels as a task makes them; the labels mark a pair of texts as inputs."""
    if not isinstance(preprocessor, keras_hub.models.Preprocessor):
        return preprocessor(inputs), labels
    inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(preprocessor(inputs, y=labels))
    return inputs, labels


def _leaves(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Applies a function to each array. A list is one array, as it is for KerasHub."""
    if isinstance(inputs, tuple):
        return tuple(_leaves(function, value) for value in inputs)
    if isinstance(inputs, Mapping):
        return {key: _leaves(function, value) for key, value in inputs.items()}
    return function(inputs)


def _require_steady(preprocessor: Any, inputs: Any, labels: Any) -> None:
    """Refuses a preprocessor whose results differ between calls or change labels."""
    made = [_applied(preprocessor, inputs, labels) for _ in range(2)]
    once, again = (keras.tree.flatten(inputs) for inputs, _ in made)
    if not all(np.array_equal(a, b) for a, b in zip(once, again, strict=True)):
        raise ConfigError(
            "model.preprocessor must return the same inputs for the same examples, because they are "
            "preprocessed once. Received: different ones at the second call. Put random augmentation "
            "into the model, before its other layers."
        )
    before, after = keras.tree.flatten(labels), keras.tree.flatten(made[0][1])
    if len(before) != len(after) or not all(map(np.array_equal, before, after)):
        raise ConfigError(
            "model.preprocessor must not change labels. Received: "
            f"{type(preprocessor).__name__}, which changes them. Apply it to the data yourself, and "
            "set model.preprocessor = None."
        )

"""The preprocessor of a KerasHub task in FineTuner: raw examples pass it once, as in Keras' fit."""

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
    """Returns what a KerasHub task applies to the examples that it is given; None: nothing.

    Raises:
        ConfigError: for one that could not be saved with the model.
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
    """Takes the preprocessor away from a task in the block: what it is given then has passed it."""
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
        given: by name: (inputs, labels), or a `tf.data.Dataset` or `keras.utils.PyDataset` of such
            pairs, with raw inputs: what the task's own ``fit`` takes. Anything else is handed on.
        preprocessor: a layer from raw inputs to those of the model; None hands all on.

    Raises:
        ConfigError: for inputs that it does not take, and one that changes labels or gives other
            inputs each time.
    """
    if preprocessor is None:
        return dict(given)
    return {name: _split(name, data, preprocessor) for name, data in given.items()}


def _split(name: str, data: Any, preprocessor: Any) -> Any:
    try:
        if isinstance(data, tf.data.Dataset):
            if not isinstance(data.element_spec, tuple) or len(data.element_spec) != 2:
                return data
            with suppress(tf.errors.OpError):  # of the dataset itself: said where all of it is read
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
    except Exception as error:  # noqa: BLE001 - whatever a preprocessor raises
        said = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"{name} must be raw examples, what model.preprocessor takes, as in Keras' own fit. "
            f"Received: {type(error).__name__}: {said}. Pass them raw; or set model.preprocessor = "
            "None, and pass inputs as the model itself takes them."
        ) from error
    if not parts:
        return data
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts), data[1]


class _Preprocessed(keras.utils.PyDataset):
    """A dataset whose batches have passed a preprocessor."""

    def __init__(self, data: keras.utils.PyDataset, preprocessor: Any) -> None:
        super().__init__()
        self._data, self._preprocessor = data, preprocessor

    @property
    def num_batches(self) -> Any:  # None: without end
        """As the dataset itself says."""
        return self._data.num_batches

    def __getitem__(self, index: int) -> Any:
        batch = self._data[index]
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            return batch
        return _split("a batch", tuple(batch), self._preprocessor)


def _applied(preprocessor: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
    """Returns inputs and labels as a task makes them; without labels, a pair of texts would be both."""
    if not isinstance(preprocessor, keras_hub.models.Preprocessor):
        return preprocessor(inputs), labels
    inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(preprocessor(inputs, y=labels))
    return inputs, labels


def _leaves(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Applies a function to each array; a list is one array, as it is to KerasHub."""
    if isinstance(inputs, tuple):
        return tuple(_leaves(function, value) for value in inputs)
    if isinstance(inputs, Mapping):
        return {key: _leaves(function, value) for key, value in inputs.items()}
    return function(inputs)


def _require_steady(preprocessor: Any, inputs: Any, labels: Any) -> None:
    """Refuses a preprocessor whose results are not what each epoch would see."""
    made = [_applied(preprocessor, inputs, labels) for _ in range(2)]
    once, again = (keras.tree.flatten(inputs) for inputs, _ in made)
    if not all(np.array_equal(a, b) for a, b in zip(once, again, strict=True)):
        raise ConfigError(
            "model.preprocessor must give the same inputs for the same examples: they are prepared "
            "once. Received: other ones the second time. Put random augmentation into the model, "
            "below its other layers."
        )
    before, after = keras.tree.flatten(labels), keras.tree.flatten(made[0][1])
    if len(before) != len(after) or not all(map(np.array_equal, before, after)):
        raise ConfigError(
            "model.preprocessor must leave labels as they are. Received: "
            f"{type(preprocessor).__name__}, which changes them. Prepare the data with it yourself, "
            "and set model.preprocessor = None."
        )

"""Data passed in Python: read into memory once, and checked against the model."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.backbones.own import last_activation
from finetune.datasets.dataset import Split
from finetune.datasets.python.datasets import gathered, rows_of, zero_masked
from finetune.datasets.python.labels import read_labels
from finetune.errors import ConfigError
from finetune.keras_internals import input_structure

Data = tuple[Any, Any] | tf.data.Dataset | keras.utils.PyDataset
"""(inputs, labels), or a finite `tf.data.Dataset` or `keras.utils.PyDataset` of such pairs.

The pairs are batched or not. Inputs are an array, or a dictionary, list or tuple of arrays, with
the preprocessing that the model expects. Labels are (n,) class indices or names, (n, classes)
one-hot rows, or (n, classes) of 0 and 1 for multi-label data.
"""


def read_splits(
    model: keras.Model, classes: Sequence[str], given: Mapping[str, Data | None]
) -> dict[str, Split]:
    """Reads the given splits.

    Args:
        model: Model that takes the inputs.
        classes: Label names in the order of the outputs.
        given: Data of train, validation and test; only test may be None.

    Raises:
        ConfigError: If data do not fit the model or another split.
    """
    there = {name: data for name, data in given.items() if data is not None or name != "test"}
    inputs: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    problems: list[str] = []
    for name, data in there.items():
        try:
            raw, labels[name] = gathered(name, data, model)
            inputs[name] = fitting_inputs(name, raw, model)
        except ConfigError as error:
            problems += error.problems
    try:
        labels = read_labels(labels, classes, last_activation(model)[0])
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return {name: _split(name, inputs[name], labels[name]) for name in there}


def read_split(
    name: str, data: Data, model: keras.Model, classes: Sequence[str], multi_label: bool
) -> Split:
    """Reads a single split for a trained model.

    Args:
        name: Name of the split.
        data: Data of the split.
        model: Model that takes the inputs.
        classes: Label names in the order of the outputs.
        multi_label: Whether an example may have any number of labels.

    Raises:
        ConfigError: If the data do not fit the model.
    """
    inputs, labels = gathered(name, data, model)
    read = read_labels({name: labels}, classes, "sigmoid" if multi_label else "softmax")
    return _split(name, fitting_inputs(name, inputs, model), read[name])


def _split(name: str, inputs: Any, labels: np.ndarray) -> Split:
    lengths = {len(array) for array in keras.tree.flatten(inputs)}
    if lengths != {len(labels)} or not len(labels):
        raise ConfigError(
            f"{name} must have as many inputs as labels, at least one. Received: "
            f"{', '.join(map(str, sorted(lengths)))} inputs, {len(labels)} labels. Pass one label "
            "for each input."
        )
    return Split(name, inputs, labels)


def fitting_inputs(name: str, given: Any, model: keras.Model) -> Any:
    """Returns inputs in the structure of the model's, as arrays of matching shapes.

    Args:
        name: Name of the inputs for messages.
        given: Inputs, see `Data`.
        model: Functional or sequential model.

    Raises:
        ConfigError: If the structure, a shape or a dtype does not match.
    """
    wanted, masked = input_structure(model), zero_masked(model)
    if isinstance(wanted, Mapping):
        if not isinstance(given, Mapping) or set(given) != set(wanted):
            received = ", ".join(given) if isinstance(given, Mapping) else type(given).__name__
            raise ConfigError(
                f"{name} must be a dictionary of the inputs {', '.join(wanted)}. Received: "
                f"{received}. Name the inputs as the model does."
            )
        pairs = {key: (given[key], wanted[key]) for key in wanted}
        return {key: _array(f"{name}[{key}]", *pair, masked) for key, pair in pairs.items()}
    if isinstance(wanted, list | tuple) and len(wanted) > 1:
        if not isinstance(given, list | tuple) or len(given) != len(wanted):
            raise ConfigError(
                f"{name} must be a list of {len(wanted)} input arrays. Received: "
                f"{type(given).__name__}. Pass them in the order of model.inputs."
            )
        pairs = zip(given, wanted, strict=True)
        return tuple(_array(f"{name}[{i}]", *pair, masked) for i, pair in enumerate(pairs))
    spec = keras.tree.flatten(wanted)[0]
    if isinstance(given, Mapping) and len(given) == 1:
        (given,) = given.values()
    elif isinstance(given, list | tuple) and len(given) == 1:
        (only,) = given  # the one input, or a list of one row
        given = only if _plain(only).ndim == len(spec.shape) else given
    return _array(name, given, spec, masked)


def input_dtypes(model: Any) -> Any:
    """Returns the dtype of each input of a model, in the structure of `fitting_inputs`."""
    wanted = input_structure(model)
    if isinstance(wanted, Mapping):
        return {key: str(spec.dtype) for key, spec in wanted.items()}
    if isinstance(wanted, list | tuple) and len(wanted) > 1:
        return tuple(str(spec.dtype) for spec in wanted)
    return str(keras.tree.flatten(wanted)[0].dtype)


def _array(where: str, given: Any, spec: Any, masked: Collection[int]) -> np.ndarray:
    """Returns the values as an array that the model can take, in the model's dtype.

    An array of a smaller dtype, such as uint8 images, is kept, because its batches are cast.
    """
    array, dtype = _plain(rows_of(where, given, spec, id(spec) in masked)), str(spec.dtype)
    text = "string" in dtype
    shape = tuple(spec.shape[1:])
    kind_fits = array.dtype.kind in ("USO" if text else "uifb")
    fits = array.ndim == 1 + len(shape) and all(
        want in (None, got) for got, want in zip(array.shape[1:], shape, strict=True)
    )
    if not kind_fits or not fits:
        raise ConfigError(
            f"{where} must be {'texts' if text else 'numbers'} of shape "
            f"{('n', *shape)}, as the model takes them. Received: {array.dtype} {array.shape}. "
            "Convert the inputs to that shape."
        )
    if text:
        return _decoded(array)
    if array.dtype.kind == "f":
        _require_finite(where, array, "Remove or fill them.")
    return _cast(where, array, np.dtype(tf.as_dtype(dtype).as_numpy_dtype))


def _decoded(array: np.ndarray) -> np.ndarray:
    """Returns texts as str; bytes, as TensorFlow datasets yield them, are decoded if UTF-8."""
    flat = array.ravel().tolist()
    if not any(isinstance(value, bytes) for value in flat):
        return array
    try:
        texts = [value.decode() if isinstance(value, bytes) else value for value in flat]
    except UnicodeDecodeError:  # such as encoded images
        return array
    decoded = np.empty(len(texts), object)
    decoded[:] = texts
    return decoded.reshape(array.shape)


def _plain(given: Any) -> np.ndarray:
    """Returns values as an array. Object arrays of numbers become arrays of numbers."""
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O":  # a column of rows, or of Python numbers
            array = np.asarray(array.tolist())
    except (ValueError, TypeError):  # rows of different lengths
        return np.asarray(None)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _cast(where: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns the array in the model's dtype, unless that takes more memory.

    Raises:
        ConfigError: If the dtype cannot represent the values.
    """
    if array.dtype == dtype:
        return array
    if dtype.kind not in "uib":
        if array.dtype.itemsize < dtype.itemsize:
            return array
        with np.errstate(over="ignore"):
            narrow = array.astype(dtype)
        _require_finite(
            where, narrow, f"Scale them: the model takes {dtype.name}, which cannot represent them."
        )
        return narrow
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    whole = array.dtype.kind in "uib" or np.array_equal(array, np.round(array))
    least, most = (array.min().item(), array.max().item()) if array.size else limits
    if not whole or least < limits[0] or most > limits[1]:
        raise ConfigError(
            f"{where} must be whole numbers from {limits[0]} to {limits[1]}, because the model takes "
            f"{dtype.name}. Received: {array.dtype} from {least} to {most}. Round "
            "them, or build the model for inputs of that dtype."
        )
    return array.astype(dtype)


def _require_finite(where: str, array: np.ndarray, advice: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if len(wrong):
        raise ConfigError(
            f"{where} must be finite numbers. Received: NaN or infinity in {len(wrong)} rows, first "
            f"in row {wrong[0]}. {advice}"
        )

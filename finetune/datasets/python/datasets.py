"""Datasets passed in Python, read into memory once as arrays."""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.datasets.memory import memory_budget
from finetune.errors import ConfigError
from finetune.keras_internals import functional_of, graph_of, is_not_equal, nodes_of

log = logging.getLogger(__name__)

_ROWS = 256  # examples that TensorFlow batches at once
_NOTICE_SECONDS = 10.0


def gathered(name: str, data: Any, model: keras.Model) -> tuple[Any, Any]:
    """Returns all examples of a split as (inputs, labels).

    Args:
        name: Name of the split.
        data: A tuple (inputs, labels), which is returned unchanged; or a finite `tf.data.Dataset`
            or `keras.utils.PyDataset` of such pairs, batched or not.
        model: Model that takes the inputs.

    Raises:
        ConfigError: If the data are anything else, or the dataset cannot be read to its end.
    """
    if isinstance(data, tf.data.Dataset):
        return _joined(name, _elements(name, data, model), model)
    if isinstance(data, keras.utils.PyDataset):
        return _joined(name, _batches(name, data), model)
    if isinstance(data, tuple) and len(data) == 2:
        return data
    what = f"{len(data)} values" if isinstance(data, tuple | list) else type(data).__name__
    advice = f"Pass {name}=(x, y)."
    if isinstance(data, tuple) and len(data) == 3:
        what, advice = "3 values", f"{_WEIGHTS} Pass {name}=(x, y)."
    elif isinstance(data, Iterator):
        what += ", which may never end"
        advice = "Join its batches to arrays, or turn it into a keras.utils.PyDataset."
    raise ConfigError(
        f"{name} must be a tuple (inputs, labels), or a tf.data.Dataset or keras.utils.PyDataset of "
        f"such pairs. Received: {what}. {advice}"
    )


_WEIGHTS = "Sample weights are not supported; dataset.class_weights=balanced sets class weights."


def _elements(name: str, data: tf.data.Dataset, model: keras.Model) -> Iterator[tuple[Any, Any]]:
    spec: Any = data.element_spec
    _require_pair(name, spec)
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(
            f"{name} must be finite, because it is read into memory once. Received: an infinite "
            "tf.data.Dataset. Remove repeat(); the schedule sets the number of epochs."
        )
    flat: Any = keras.tree.flatten(spec[0])
    known = all(isinstance(leaf, tf.TensorSpec) for leaf in flat + keras.tree.flatten(spec[1]))
    shapes = [tensor.shape for tensor in flat] if known else []
    single = known and all(shape.is_fully_defined() for shape in shapes)
    if single and not _is_batch([tuple(shape) for shape in shapes], _shapes(model), 0):
        data = data.batch(_ROWS)
    try:
        yield from data
    except tf.errors.OpError as error:
        said = re.sub(r"\{\{.*?\}\}", "", str(error.message)).strip().splitlines()
        raise ConfigError(
            f"{name} must be a dataset that can be read to its end. Received: "
            f"{(said or [type(error).__name__])[0]}. Fix the dataset."
        ) from error


def _batches(name: str, data: keras.utils.PyDataset) -> Iterator[tuple[Any, Any]]:
    number = data.num_batches
    if number is None:
        raise ConfigError(
            f"{name} must be finite, because it is read into memory once. Received: an infinite "
            "PyDataset. Set its num_batches to the number of batches in one epoch."
        )
    for index in range(number):
        batch = data[index]
        _require_pair(name, batch)
        yield batch


def _require_pair(name: str, element: Any) -> None:
    if isinstance(element, tuple | list) and len(element) == 2:
        return
    count = len(element) if isinstance(element, tuple | list) else None
    what = type(element).__name__ if count is None else f"{count} values"
    advice = _WEIGHTS if count == 3 else "Map them to pairs."
    raise ConfigError(f"{name} must have elements (inputs, labels). Received: {what}. {advice}")


def _shapes(model: Any) -> list[tuple[int | None, ...]]:
    """Returns the shapes of a model's inputs without the batch dimension."""
    return [tuple(tensor.shape[1:]) for tensor in model.inputs]


def _is_batch(
    shapes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int | None, ...]], labels: int
) -> bool:
    """Distinguishes a batch from a single example.

    Args:
        shapes: Shapes of the inputs.
        wanted: Shapes that the model takes, without the batch dimension.
        labels: Number of dimensions of the labels, which decides if shapes are ambiguous.
    """
    if len(shapes) != len(wanted):
        return labels > 0
    if all(len(shape) == 1 + len(want) for shape, want in zip(shapes, wanted, strict=True)):
        return True
    single = all(
        len(shape) == len(want) and all(b in (None, a) for a, b in zip(shape, want, strict=True))
        for shape, want in zip(shapes, wanted, strict=True)
    )
    return not single and labels > 0


def _joined(name: str, elements: Iterable[tuple[Any, Any]], model: keras.Model) -> tuple[Any, Any]:
    """Reads all elements and joins their values to one array per input."""
    wanted, budget = _shapes(model), memory_budget()
    blocks: list[list[np.ndarray]] = []
    structure: Any = None
    size = rows = 0
    noticed = time.monotonic()
    for inputs, labels in elements:
        flat = [*keras.tree.flatten(inputs), labels]
        if isinstance(labels, Mapping | list | tuple):
            raise ConfigError(
                f"{name} must have one array of labels. Received: elements with "
                f"{type(labels).__name__} of labels. Pass the labels of the model's single output."
            )
        shapes = [tuple(array.shape) for array in map(_shaped, flat)]
        batch = _is_batch(shapes[:-1], wanted, len(shapes[-1]))
        made = [_blocks(value, batch) for value in flat]
        structure = inputs if structure is None else structure
        blocks = blocks or [[] for _ in made]
        if len(made) != len(blocks):
            raise ConfigError(
                f"{name} must have the same inputs in all elements. Received: {len(made) - 1} inputs "
                f"after {len(blocks) - 1}. Fix the dataset."
            )
        for rows_before, new in zip(blocks, made, strict=True):
            rows_before.extend(new)
        size += sum(block.nbytes for new in made for block in new)
        rows += sum(map(len, made[-1]))
        if size > budget:
            raise ConfigError(
                f"{name} must fit into half of the free memory, because it is read once. Received: "
                f"more than {budget / 2**30:.1f} GiB by example {rows}. Limit it with take(n)."
            )
        if time.monotonic() - noticed > _NOTICE_SECONDS:
            noticed = time.monotonic()
            log.warning("reading %s into memory: %d examples so far", name, rows)
    if not rows:
        raise ConfigError(
            f"{name} must have at least one example. Received: an empty dataset. Add examples."
        )
    masked = zero_masked(model)
    specs = [*model.inputs, None] if len(blocks) == 1 + len(model.inputs) else [None] * len(blocks)
    whole = [
        _one_array(f"{name} labels" if i + 1 == len(blocks) else name, parts, id(spec) in masked)
        for i, (parts, spec) in enumerate(zip(blocks, specs, strict=True))
    ]
    return keras.tree.pack_sequence_as(structure, whole[:-1]), whole[-1]


def _shaped(value: Any) -> Any:
    return value if hasattr(value, "shape") else np.asarray(value)


def _blocks(value: Any, batch: bool) -> list[np.ndarray]:
    """Returns the rows of one element as blocks, each of one shape."""
    if isinstance(value, tf.RaggedTensor):
        return [_dense(row)[None] for row in value] if batch else [_dense(value)[None]]
    array = _dense(value)
    return [array if batch and array.ndim else array[None]]


def _dense(value: Any) -> np.ndarray:
    if isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    if isinstance(value, tf.RaggedTensor):
        value = value.to_tensor()
    return np.asarray(value)


def rows_of(where: str, given: Any, spec: keras.KerasTensor, masked: bool) -> Any:
    """Returns rows of different lengths as one array, and other inputs unchanged.

    Args:
        where: Name of the input for messages.
        given: The values that the user passed as one input.
        spec: Keras tensor of the input.
        masked: Whether the model masks zeros as padding.

    Raises:
        ConfigError: If lengths differ and the model does not mask zeros.
    """
    if isinstance(given, tf.SparseTensor):
        return _dense(given)
    if isinstance(given, tf.RaggedTensor):
        return _one_array(where, _blocks(given, batch=True), masked)
    listed = isinstance(given, list | tuple) or getattr(given, "dtype", None) == np.dtype(object)
    if not listed or not len(given) or tuple(spec.shape[1:2]) != (None,):
        return given
    try:
        rows = [np.asarray(row)[None] for row in given]
    except ValueError:  # of different lengths within a row
        return given
    if len({row.shape for row in rows}) == 1 or not all(row.dtype.kind in "uifb" for row in rows):
        return given
    return _one_array(where, rows, masked)


def _one_array(where: str, blocks: Sequence[np.ndarray], masked: bool) -> np.ndarray:
    """Joins blocks of rows; pads different lengths with zeros if the model masks zeros."""
    shapes = {block.shape[1:] for block in blocks}
    if len(shapes) == 1:
        return np.concatenate(blocks)
    first = {shape[:1] for shape in shapes}
    even = len({len(shape) for shape in shapes}) == 1 and len({s[1:] for s in shapes}) == 1
    if not even:
        shown = ", ".join(map(str, sorted(shapes, key=str)[:3]))
        raise ConfigError(
            f"{where} must have examples of one shape. Received: {shown}. Pad or resize them."
        )
    lengths = [length for (length,) in first]
    if not masked:
        raise ConfigError(
            f"{where} must have examples of one length. Received: lengths from {min(lengths)} to "
            f"{max(lengths)}. Pad all to one length (tf.data: padded_batch with padded_shapes); or "
            "mask zeros in the model, with Embedding(mask_zero=True) or a Masking layer, to have "
            "them padded automatically."
        )
    shape = (sum(map(len, blocks)), max(lengths), *blocks[0].shape[2:])
    whole = np.zeros(shape, np.result_type(*blocks))
    row = 0
    for block in blocks:
        whole[row : row + len(block), : block.shape[1]] = block
        row += len(block)
    return whole


def zero_masked(model: Any) -> frozenset[int]:
    """Finds the inputs of a model in which zeros are padding, because all uses of them mask zeros.

    Returns:
        `id` of the Keras tensors in ``model.inputs``.
    """
    nodes = nodes_of(model)

    def masks(operation: Any, place: int) -> bool:
        inner = functional_of(operation)
        if inner is not None:
            return id(inner.inputs[place]) in zero_masked(inner)
        if isinstance(operation, keras.layers.Embedding):
            return operation.mask_zero
        if isinstance(operation, keras.layers.Masking):
            return operation.mask_value == 0
        return is_not_equal(operation)  # it makes the mask of one of these

    found = set()
    for tensor in graph_of(model).inputs:
        uses = [
            masks(node.operation, place)
            for node in nodes
            if not node.is_input
            for place, used in enumerate(node.input_tensors)
            if used is tensor
        ]
        if uses and all(uses):
            found.add(id(tensor))
    return frozenset(found)

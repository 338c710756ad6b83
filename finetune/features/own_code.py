"""A user's own code that keeps a call out of the store, or the whole model in one piece.

Stored features can replace a call only if it always computes the same output from the same rows and
does nothing else. Arguments and variables tell this of Keras' and KerasHub's own layers; the program
of any other code is traced and searched.
"""

import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.features.code_digest import code_sha256
from finetune.keras_internals import added_losses, flatten, is_stateful_op, takes_training_mode

_LIBRARIES = ("keras", "keras_hub", "tensorflow")
_FOREIGN = (
    "TFSMLayer",
    "JaxLayer",
    "FlaxLayer",
    "TorchModuleWrapper",
)  # they run code of other libraries
_RANDOM = re.compile(r"Random|Multinomial|TruncatedNormal|Shuffle|Poisson|StatelessSample|Rng")
_PYTHON = ("PyFunc", "EagerPyFunc")
_READ_ONLY = re.compile(  # stateful to TensorFlow, but always the same
    r"VarHandleOp|ReadVariableOp|ResourceGather(Nd)?|Placeholder|_Arg|_Retval|NoOp"
    r"|(Stateful)?PartitionedCall|(Stateless)?(While|If|Case)|Assert|PrintV2"
    r"|HashTableV2|LookupTable(Find|Size|Export)V2"
)
_STEPS = (
    "train_step test_step predict_step compute_loss compute_metrics "
    "make_train_function make_test_function make_predict_function preprocess_samples "
    "fit evaluate predict compile metrics reset_metrics get_metrics_result"
).split()


def own_steps(model: keras.Model) -> tuple[str, ...]:
    """Returns the training steps of a model's own, by names such as ``train_step``.

    They take the inputs of the whole model, so that no part of it can be trained in its place.
    """
    classes = [cls for cls in type(model).__mro__ if not _of_library(cls)]
    own = [name for name in _STEPS if any(name in vars(owner) for owner in (*classes, model))]
    return (*own, *(["activity_regularizer"] if model.activity_regularizer is not None else []))


def why_not_fixed(node: Any) -> str | None:
    """Returns why a call does more than compute the same output from the same rows; None if not.

    Args:
        node: Keras' record of the call.
    """
    layers = list(flatten(node.operation)) if isinstance(node.operation, keras.Layer) else []
    if any(layer.activity_regularizer is not None for layer in layers):
        return "adds a loss on its output"
    if not _runs_own_code(node, layers or [node.operation]):
        return None
    try:
        first, second = _TracedCall(node), _TracedCall(node)
    except Exception as error:  # noqa: BLE001 - whatever the code of others raises
        return f"{type(error).__name__} while it was traced"
    if first.losses:
        return "adds a loss"
    operations = {step.op for step in first.steps}
    if any(map(_RANDOM.search, operations)):
        return "draws random numbers"
    if operations.intersection(_PYTHON):
        return "runs Python code in each step"
    stateful = [
        name for name in operations if is_stateful_op(name) and not _READ_ONLY.fullmatch(name)
    ]
    if stateful:
        return f"has a state that its call changes ({', '.join(sorted(stateful))})"
    if first.values() != second.values():
        return "draws random numbers in Python, or other values that differ each time"
    return None


def _of_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] in (*_LIBRARIES, "builtins")


def _runs_own_code(node: Any, operations: Iterable[Any]) -> bool:
    """Tells whether a call runs any code that is not Keras' or KerasHub's."""
    given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    held = [value for operation in operations for value in vars(operation).values()]
    return (
        code_sha256(node.operation) is not None
        or any(type(operation).__name__ in _FOREIGN for operation in operations)
        or any(callable(value) and not _of_library(_callee(value)) for value in (*given, *held))
    )


def _callee(value: Any) -> Any:
    """Returns what tells whose code a callable is: itself, or the class of an object."""
    functions = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    return value if isinstance(value, functions) else type(value)


class _TracedCall:
    """The program of one call, as TensorFlow traces it now."""

    def __init__(self, node: Any) -> None:
        operation = node.operation
        specs = {id(tensor): tensor for tensor in node.input_tensors}
        self.losses = 0

        def run(*tensors: Any) -> Any:
            known = dict(zip(specs, tensors, strict=True))
            args, kwargs = node.arguments.fill_in(known)
            if takes_training_mode(operation):
                kwargs["training"] = False
            outputs = operation(*args, **kwargs)
            if isinstance(operation, keras.Layer):
                self.losses = added_losses(operation)
            return [output for output in keras.tree.flatten(outputs) if output is not None]

        given = [tf.TensorSpec(spec.shape, spec.dtype) for spec in specs.values()]
        self._program = tf.function(run, autograph=False).get_concrete_function(*given)
        self._definition = self._program.graph.as_graph_def()

    @property
    def steps(self) -> Iterator[Any]:
        """The operations of the program, including those of functions that it calls."""
        yield from self._definition.node
        for function in self._definition.library.function:
            yield from function.node_def

    def values(self) -> Counter[Any]:
        """Counts the operations, and the values that were known while it was traced."""
        found = Counter(step.op for step in self.steps)
        found += Counter(
            step.attr["value"].SerializeToString() for step in self.steps if step.op == "Const"
        )
        for captured, _ in self._program.graph.captures:
            if captured.dtype == tf.string:
                found[repr(captured.numpy().tolist())] += 1
            elif captured.dtype not in (tf.resource, tf.variant):
                found[np.asarray(captured).tobytes()] += 1
        return found

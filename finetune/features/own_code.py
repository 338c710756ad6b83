"""What of a model's own code keeps a call out of the store, or the whole model in one piece.

Stored features stand for a call that gives the same output for the same rows each time and does
nothing else. Keras' and KerasHub's own layers say by their arguments and variables whether they do;
any other code is asked: its program is traced, and looked through.
"""

import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.features.code import code_sha256
from finetune.keras_internals import added_losses, flatten, is_stateful_op, takes_training_mode

_LIBRARIES = ("keras", "keras_hub", "tensorflow")
_FOREIGN = ("TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper")  # run what is not Keras'
_RANDOM = re.compile(r"Random|Multinomial|TruncatedNormal|Shuffle|Poisson|StatelessSample|Rng")
_PYTHON = ("PyFunc", "EagerPyFunc")
_READ_ONLY = re.compile(  # stateful to TensorFlow, but always the same
    r"VarHandleOp|ReadVariableOp|ResourceGather(Nd)?|Placeholder|_Arg|_Retval|NoOp"
    r"|(Stateful)?PartitionedCall|(Stateless)?(While|If|Case)|Assert|PrintV2"
    r"|HashTableV2|LookupTable(Find|Size|Export)V2"
)
_STEPS = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"),
    *("make_train_function", "make_test_function", "make_predict_function"),
    *(
        "preprocess_samples",
        "fit",
        "evaluate",
        "predict",
        "compile",
        "metrics",
        "reset_metrics",
        "get_metrics_result",
    ),
)


def own_steps(model: keras.Model) -> tuple[str, ...]:
    """Returns what a model brings along of how it is trained: names such as ``train_step``.

    They are given the inputs of the whole model, so that no part of it can be trained in its place.
    """
    classes = [each for each in type(model).__mro__ if not _of_library(each)]
    own = [name for name in _STEPS if any(name in vars(each) for each in (*classes, model))]
    return (*own, *(["activity_regularizer"] if model.activity_regularizer is not None else []))


def why_not_fixed(node: Any) -> str | None:
    """Returns why the output of a call says not all that it does; None: it does.

    Args:
        node: Keras' record of the call.
    """
    layers = list(flatten(node.operation)) if isinstance(node.operation, keras.Layer) else []
    if any(each.activity_regularizer is not None for each in layers):
        return "adds a loss of what it puts out"
    if not _runs_own_code(node, layers or [node.operation]):
        return None
    try:
        traced = [_traced(node) for _ in range(2)]
    except Exception as error:  # noqa: BLE001 - whatever the code of others raises
        return f"{type(error).__name__} while it was traced"
    if traced[0].losses:
        return "adds a loss"
    operations = {each.op for each in traced[0].nodes}
    if any(map(_RANDOM.search, operations)):
        return "draws random numbers"
    if operations.intersection(_PYTHON):
        return "runs Python code in each step"
    stateful = [
        each for each in operations if is_stateful_op(each) and not _READ_ONLY.fullmatch(each)
    ]
    if stateful:
        return f"has a state that its call changes ({', '.join(sorted(stateful))})"
    if traced[0].values() != traced[1].values():
        return "draws random numbers in Python, or other values that differ each time"
    return None


def _of_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] in (*_LIBRARIES, "builtins")


def _runs_own_code(node: Any, operations: Iterable[Any]) -> bool:
    """Tells whether a call runs any code that is not Keras' or KerasHub's."""
    given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    held = [value for each in operations for value in vars(each).values()]
    return (
        code_sha256(node.operation) is not None
        or any(type(each).__name__ in _FOREIGN for each in operations)
        or any(callable(each) and not _of_library(_callee(each)) for each in (*given, *held))
    )


def _callee(value: Any) -> Any:
    """Returns what says whose code a callable is: itself, or the class of an object."""
    functions = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    return value if isinstance(value, functions) else type(value)


class _traced:
    """The program of one call, as TensorFlow traces it now."""

    def __init__(self, node: Any) -> None:
        operation = node.operation
        specs = list({id(each): each for each in node.input_tensors}.items())
        self.losses = 0

        def run(*tensors: Any) -> Any:
            known = {key: tensor for (key, _), tensor in zip(specs, tensors, strict=True)}
            args, kwargs = node.arguments.fill_in(known)
            if takes_training_mode(operation):
                kwargs["training"] = False
            outputs = operation(*args, **kwargs)
            if isinstance(operation, keras.Layer):
                self.losses = added_losses(operation)
            return [each for each in keras.tree.flatten(outputs) if each is not None]

        given = [tf.TensorSpec(each.shape, each.dtype) for _, each in specs]
        self._program = tf.function(run, autograph=False).get_concrete_function(*given)
        self._definition = self._program.graph.as_graph_def()

    @property
    def nodes(self) -> Iterator[Any]:
        """The operations of the program, those of functions that it calls too."""
        yield from self._definition.node
        for function in self._definition.library.function:
            yield from function.node_def

    def values(self) -> Counter[Any]:
        """Returns how often it has each operation, and each value that was known while tracing."""
        found = Counter(each.op for each in self.nodes)
        found += Counter(
            each.attr["value"].SerializeToString() for each in self.nodes if each.op == "Const"
        )
        for captured, _ in self._program.graph.captures:
            if captured.dtype == tf.string:
                found[repr(captured.numpy().tolist())] += 1
            elif captured.dtype not in (tf.resource, tf.variant):
                found[np.asarray(captured).tobytes()] += 1
        return found

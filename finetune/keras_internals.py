"""Every private member of Keras, KerasHub, TensorFlow, OmegaConf and Hydra that this package uses.

Each one stands in a function with a name, so that a new release of a library means work in this file
alone; `tests/test_keras_internals.py` shows what each function relies on. The libraries are imported
when a function is called: reading a config must not import TensorFlow.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# Keras: layers and their variables


def flatten(layer: "keras.Layer") -> Iterator["keras.Layer"]:
    """Yields `layer` and every layer inside it, parents before children, each one once."""
    seen: set[int] = set()
    for inner in layer._flatten_layers(include_self=True, recursive=True):
        if id(inner) not in seen:
            seen.add(id(inner))
            yield inner


def direct_layers(layer: Any) -> list["keras.Layer"]:
    """Returns the layers that `layer` holds itself, without those inside them."""
    return list(layer._layers)


def direct_weights(layer: "keras.Layer") -> list["keras.Variable"]:
    """Returns the variables of `layer` itself, those that its class made trainable first."""
    return layer._trainable_variables + layer._non_trainable_variables


def made_trainable(layer: "keras.Layer") -> list["keras.Variable"]:
    """Returns the variables of `layer` itself that its class made trainable, whatever their flag."""
    return layer._trainable_variables


def made_untrainable(layer: "keras.Layer") -> list["keras.Variable"]:
    """Returns the variables of `layer` itself that its class made non-trainable."""
    return layer._non_trainable_variables


def kernel_of(layer: Any) -> "keras.Variable":
    """Returns the variable of a kernel; the public `kernel` of a layer with LoRA is a sum."""
    return layer._kernel


def is_image_preprocessing(layer: "keras.Layer") -> bool:
    """Tells whether a layer is one of Keras' that preprocess or augment images."""
    from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
        BaseImagePreprocessingLayer,
    )

    return isinstance(layer, BaseImagePreprocessingLayer)


@contextmanager
def assignments() -> Iterator[set[int]]:
    """Collects the ids of the Keras variables that are assigned inside the block.

    Keras does not say which weights a file filled, and a loader that skips one raises nothing.
    """
    import keras

    owner = next(kind for kind in keras.Variable.__mro__ if "assign" in vars(kind))
    original: Any = vars(owner)["assign"]
    found: set[int] = set()

    def assign(variable: Any, value: Any) -> Any:
        result = original(variable, value)
        found.add(id(variable))
        return result

    setattr(owner, "assign", assign)  # noqa: B010 - a type checker sees no such attribute
    try:
        yield found
    finally:
        setattr(owner, "assign", original)  # noqa: B010


# Keras: graphs of models


def is_functional(layer: Any) -> bool:
    """Tells whether a layer is a functional model."""
    from keras.src.models.functional import Functional

    return isinstance(layer, Functional)


def has_graph(layer: Any) -> bool:
    """Tells whether a layer is a functional or a sequential model."""
    import keras

    return isinstance(layer, keras.Sequential) or is_functional(layer)


def new_functional(inputs: Any, outputs: Any) -> "keras.Model":
    """Returns a functional model from Keras tensors to Keras tensors."""
    from keras.src.models.functional import Functional

    return Functional(inputs, outputs)


def functional_of(layer: Any) -> Any:
    """Returns the functional model that calling `layer` runs, or None if the call does anything else."""
    import keras
    from keras.src.models.functional import Functional

    if isinstance(layer, keras.Sequential):
        return layer._functional if type(layer).call is keras.Sequential.call else None
    if isinstance(layer, Functional) and type(layer).call is Functional.call:
        return layer
    return None


def graph_of(model: Any) -> Any:
    """Returns the functional model behind a functional or sequential one."""
    import keras

    return model._functional if isinstance(model, keras.Sequential) else model


def nodes_of(model: Any) -> list[Any]:
    """Returns the calls of a functional or sequential model, from input to output, inputs included."""
    by_depth = graph_of(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def input_structure(model: Any) -> Any:
    """Returns the Keras tensors of a model's inputs in the structure in which it takes them."""
    return graph_of(model)._inputs_struct


def output_structure(model: Any) -> Any:
    """Returns the Keras tensors of a model's outputs in the structure in which it returns them."""
    return graph_of(model)._outputs_struct


def maker_of(tensor: Any) -> Any:
    """Returns the layer or operation that made a Keras tensor."""
    return tensor._keras_history.operation


def is_not_equal(operation: Any) -> bool:
    """Tells whether an operation is the comparison with which Keras makes a mask."""
    from keras.src.ops.numpy import NotEqual

    return isinstance(operation, NotEqual)


# Keras: calls and optimizers


def call_context(layer: "keras.Layer") -> Any:
    """Returns the context of the call in progress, which holds the mode for the layers below."""
    return layer._get_call_context()


def takes_training_mode(operation: Any) -> bool:
    """Tells whether Keras passes `training` to the call of an operation."""
    return getattr(operation, "_call_has_training_arg", False)


def added_losses(layer: "keras.Layer") -> int:
    """Removes the losses that the last call of `layer` and its inner layers added; returns how many."""
    number = sum(len(inner._losses) for inner in flatten(layer))
    layer._clear_losses()
    return number


def rate_variable(optimizer: Any) -> "keras.Variable":
    """Returns the variable that holds the learning rate of an optimizer."""
    return optimizer._learning_rate


# KerasHub


def preset_loader(preset: str) -> Any:
    """Returns what KerasHub reads a preset with; `converter.convert_weights` fills a backbone."""
    from keras_hub.src.utils.preset_utils import get_preset_loader

    return get_preset_loader(preset)


def load_preset_weights(loader: Any, backbone: Any) -> None:
    """Fills a backbone with the weights of a KerasHub preset.

    Raises:
        ValueError: If some weights do not fit, once all others are loaded.
    """
    loader._load_backbone_weights(backbone)


# TensorFlow


def is_op_deterministic() -> bool:
    """Tells whether TensorFlow uses deterministic ops only."""
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def set_op_determinism(deterministic: bool) -> None:
    """Turns deterministic ops on or off; the public API can only turn them on."""
    from tensorflow.python.framework import config

    if deterministic:
        config.enable_op_determinism()
    else:
        config.disable_op_determinism()


def is_stateful_op(name: str) -> bool:
    """Tells whether TensorFlow has an op of this name and declares it stateful."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(name)
    return definition is not None and definition.is_stateful


def custom_gradients() -> set[str]:
    """Returns the names under which TensorFlow keeps the gradients of traced calls."""
    from tensorflow.python.framework.ops import gradient_registry

    return {name for name in gradient_registry._registry if name.startswith("CustomGradient-")}


def forget_gradients(names: Iterable[str]) -> None:
    """Removes gradients of traced calls, each of which keeps its whole graph in memory."""
    from tensorflow.python.framework.ops import gradient_registry

    for name in names:
        gradient_registry._registry.pop(name, None)


def is_trackable(value: Any) -> bool:
    """Tells whether a SavedModel can hold a value, such as a table or a variable."""
    import tensorflow as tf

    return isinstance(value, tf.__internal__.tracking.Trackable)  # type: ignore[attr-defined]


# Hydra and OmegaConf


def hydra_file_source() -> Any:
    """Returns the class with which Hydra reads config files from a directory."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    return FileConfigSource


def replace_hydra_file_source(source: type) -> None:
    """Makes Hydra read config files from directories with the class `source`."""
    from hydra._internal.sources_registry import SourcesRegistry

    SourcesRegistry.instance().types["file"] = source


def config_file_name(source: Any, config_path: str) -> str:
    """Returns the file name that a Hydra source looks for, with its suffix."""
    return source._normalize_file_name(config_path)


def config_header(text: str) -> dict[str, str | None]:
    """Returns what the first lines of a config file say to Hydra, such as ``# @package _global_``."""
    from hydra.plugins.config_source import ConfigSource

    return ConfigSource._get_header_dict(text)


def hydra_jobs(overrides: Sequence[Any]) -> Iterator[list[str]]:
    """Yields the overrides of each job that Hydra's own sweeper makes of parsed overrides."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    for batch in BasicSweeper.split_arguments(list(overrides), None):
        yield from map(list, batch)


def omegaconf_loader() -> Any:
    """Returns the YAML loader with which OmegaConf reads config files."""
    from omegaconf._utils import get_yaml_loader

    return get_yaml_loader()

"""Writes a model in each export format."""

import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from finetune.inference.completed import MODEL
from finetune.inference.export.formats import Format, refusal
from finetune.inference.export.interface import VOCABULARY, axis_names
from finetune.inference.export.serving import TEXTS
from finetune.inference.trained import TrainedModel
from finetune.keras_internals import flatten, is_trackable
from finetune.startup import native_stderr_held


def write(trained: TrainedModel, model: keras.Model, target: Format, directory: Path) -> None:
    """Writes the artifact of a format, and the tokenizer beside it if the artifact takes tokens.

    Args:
        trained: Trained model of the run.
        model: Serving model of it; see `finetune.inference.export.serving`.
        target: Format to write.
        directory: Directory for `target.artifact`.

    Raises:
        ConfigError: If the format cannot hold the model; the message names the operations.
    """
    path = directory / target.artifact
    if trained.kind == "text" and not target.texts:
        trained.preprocessor.save_to_preset(str(directory / VOCABULARY))
        # KerasHub finds the class of the preprocessor through this file.
        shutil.copyfile(
            trained.directory / MODEL / "config.json", directory / VOCABULARY / "config.json"
        )
    try:
        with native_stderr_held():  # converters log to it
            if trained.kind == "text" and target.texts:
                _write_texts(trained, model, path)
            else:
                _WRITERS[target.name](model, path)
    except UnsupportedError as error:
        raise refusal(target.name, trained.record.backbone.name, str(error)) from error


class UnsupportedError(Exception):
    """Raised when a format lacks an operation of the model."""


def _write_keras(model: keras.Model, path: Path) -> None:
    model.save(path)


def _write_saved_model(model: keras.Model, path: Path) -> None:
    _write_endpoint(lambda inputs: model(inputs, training=False), _signature(model), path)


def _write_texts(trained: TrainedModel, model: Any, path: Path) -> None:
    """Writes a SavedModel from texts to probabilities, with the operations of tensorflow-text."""

    def serve(texts: tf.Tensor) -> Any:
        tokens = trained.preprocessor(texts)
        given = {name: tokens[name] for name in model.input}
        return model(given, training=False)

    spec = keras.InputSpec(dtype="string", shape=(None,), name=TEXTS)
    tables = list(filter(is_trackable, vars(trained.preprocessor.tokenizer).values()))
    _write_endpoint(serve, [spec], path, tables)


def _write_endpoint(
    serve: Callable[..., Any], signature: list[Any], path: Path, tables: Sequence[Any] = ()
) -> None:
    """Writes one function with its variables and the tables of a tokenizer.

    The model itself is not tracked, because it would be written a second time.
    """
    archive: Any = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.write_out(str(path), verbose=False)


def _signature(model: keras.Model) -> list[Any]:
    def spec(tensor: Any) -> keras.InputSpec:
        return keras.InputSpec(dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)

    return [keras.tree.map_structure(spec, model.input)]


def _write_onnx(model: keras.Model, path: Path) -> None:
    import onnx

    from finetune.inference.export import onnx_operations  # noqa: F401 - registers them

    _hold_no_tensors(model)
    with warnings.catch_warnings():
        # Keras looks up `np.object` in NumPy 2 on behalf of tf2onnx.
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        model.export(path, format="onnx", verbose=False, input_signature=_signature(model))
    written = onnx.load(path)
    # tf2onnx writes operations that it does not know under their TensorFlow names.
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    unknown = {node.op_type for node in written.graph.node} - known
    if unknown:
        raise UnsupportedError(f"ONNX has no {', '.join(sorted(unknown))}")
    for port in (*written.graph.input, *written.graph.output):
        sides = port.type.tensor_type.shape.dim
        for side, name in zip(sides, axis_names(port.name, len(sides)), strict=True):
            if not side.HasField("dim_value"):
                side.dim_param = name
    onnx.save(written, path)


def _hold_no_tensors(model: keras.Model) -> None:
    """Turns tensors that layers hold beside their weights, such as positions, into arrays.

    tf2onnx would make an input of every tensor that a function captures.
    """
    for layer in flatten(model):
        for name, value in list(vars(layer).items()):
            if isinstance(value, tf.Tensor):
                setattr(layer, name, value.numpy())


def _write_litert(model: keras.Model, path: Path) -> None:
    own = [tf.lite.OpsSet.TFLITE_BUILTINS]  # its interpreter lacks TensorFlow's operations
    try:
        model.export(path, format="litert", verbose=False, target_spec={"supported_ops": own})
    except Exception as error:
        # TensorFlow's ConverterError has no public name.
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        if not missing:
            raise
        raise UnsupportedError(f"LiteRT has no {', '.join(missing)}") from error


_WRITERS: dict[str, Callable[[keras.Model, Path], None]] = {
    "keras": _write_keras,
    "saved_model": _write_saved_model,
    "onnx": _write_onnx,
    "litert": _write_litert,
}

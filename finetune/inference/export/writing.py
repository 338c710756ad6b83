"""Writes a model in each format."""

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
    """Writes the artifact of a format, and a tokenizer beside it where tokens go in.

    Args:
        trained: of the run.
        model: of it, see `finetune.inference.export.serving`.
        target: the format.
        directory: where `target.artifact` is written.

    Raises:
        ConfigError: for a model that the format cannot hold, with what of it.
    """
    path = directory / target.artifact
    if trained.kind == "text" and not target.texts:
        trained.preprocessor.save_to_preset(str(directory / VOCABULARY))
        # By which KerasHub knows whose preprocessor it is.
        shutil.copyfile(
            trained.directory / MODEL / "config.json", directory / VOCABULARY / "config.json"
        )
    try:
        with native_stderr_held():  # converters write to it what they do
            if trained.kind == "text" and target.texts:
                _write_texts(trained, model, path)
            else:
                _WRITERS[target.name](model, path)
    except UnsupportedError as error:
        raise refusal(target.name, trained.record.backbone.name, str(error)) from error


class UnsupportedError(Exception):
    """What a format has no operation for."""


def _write_keras(model: keras.Model, path: Path) -> None:
    model.save(path)


def _write_saved_model(model: keras.Model, path: Path) -> None:
    _write_endpoint(lambda inputs: model(inputs, training=False), _signature(model), path)


def _write_texts(trained: TrainedModel, model: Any, path: Path) -> None:
    """Writes a SavedModel from texts to probabilities; its tokenizer is tensorflow-text's."""

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
    """Writes one function with its variables, and the tables of a tokenizer.

    A model that were tracked too would be written a second time.
    """
    archive: Any = keras.export.ExportArchive()
    for each in tables:
        archive.track(each)
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.write_out(str(path), verbose=False)


def _signature(model: keras.Model) -> list[Any]:
    def spec(each: Any) -> keras.InputSpec:
        return keras.InputSpec(dtype=each.dtype, shape=each.shape, name=each.name)

    return [keras.tree.map_structure(spec, model.input)]


def _write_onnx(model: keras.Model, path: Path) -> None:
    import onnx

    from finetune.inference.export import onnx_operations  # noqa: F401 - registers them

    _hold_no_tensors(model)
    with warnings.catch_warnings():
        # Keras asks NumPy 2 for `np.object` on behalf of tf2onnx.
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        model.export(path, format="onnx", verbose=False, input_signature=_signature(model))
    written = onnx.load(path)
    # tf2onnx writes an operation that it does not know as it is.
    known = {each.name for each in onnx.defs.get_all_schemas()}
    unknown = {each.op_type for each in written.graph.node} - known
    if unknown:
        raise UnsupportedError(f"ONNX has no {', '.join(sorted(unknown))}")
    for port in (*written.graph.input, *written.graph.output):
        sides = port.type.tensor_type.shape.dim
        for side, name in zip(sides, axis_names(port.name, len(sides)), strict=True):
            if not side.HasField("dim_value"):
                side.dim_param = name
    onnx.save(written, path)


def _hold_no_tensors(model: keras.Model) -> None:
    """Makes arrays of tensors that layers hold beside their weights, such as positions.

    Of a tensor that a function captures tf2onnx makes one more input.
    """
    for layer in flatten(model):
        for name, value in list(vars(layer).items()):
            if isinstance(value, tf.Tensor):
                setattr(layer, name, value.numpy())


def _write_litert(model: keras.Model, path: Path) -> None:
    own = [tf.lite.OpsSet.TFLITE_BUILTINS]  # TensorFlow's are not in its interpreter
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

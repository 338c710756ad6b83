"""Builds one Keras model of preprocessing, trained model and named outputs."""

from collections.abc import Mapping
from typing import Any

import keras

from finetune.inference.export.formats import Format
from finetune.inference.inputs import tokenize_of
from finetune.inference.trained import TrainedModel
from finetune.keras_internals import flatten
from finetune.tasks.objective import MULTI_LABEL, Objective

IMAGES, TEXTS = "images", "texts"
PROBABILITIES, LOGITS = "probabilities", "logits"


def serving_model(trained: TrainedModel, target: Format) -> keras.Model:
    """Returns the model to export. It shares all weights with `trained` and uses only Keras layers.

    If the format does not support mixed precision, this sets the layers of `trained` to compute in
    float32, the dtype of their weights.

    Inputs: ``images`` (batch, height, width, 3) float32 in 0..255, of any size if `any_size` says
    so, otherwise of the model's size; or the tokens of texts by name, (batch, tokens) in the dtypes
    of the preprocessor; or the inputs of a user's own model. Outputs: ``probabilities`` (batch,
    classes) float32, and their ``logits`` if the model computes logits.
    """
    if not target.mixed:
        for layer in flatten(trained.model):
            layer.dtype_policy = "float32"
    inputs: Any
    if trained.kind == "image":
        size = (None, None) if any_size(trained, target) else trained.image_size
        inputs = keras.Input((*(size or ()), 3), dtype="float32", name=IMAGES)
        given = _prepared(inputs, trained, resized=size == (None, None))
        if isinstance(trained.model.input, Mapping):
            given = {name: given for name in trained.model.input}
    elif trained.kind == "text":
        tokens: Any = trained.model.input
        kinds = token_kinds(trained)
        inputs = {name: keras.Input((None,), dtype=kinds[name], name=name) for name in tokens}
        given = {name: keras.ops.cast(inputs[name], tokens[name].dtype) for name in tokens}
    else:
        inputs, given = _own_inputs(trained.model)
    # A plain model, because the class of the task would bring its optimizer along.
    plain = keras.Model(trained.model.input, trained.model.output, name="classifier")
    outputs = _outputs(plain(given, training=False), trained.objective)
    return keras.Model(inputs, outputs, name="serving")


def token_kinds(trained: TrainedModel) -> dict[str, str]:
    """Returns the dtype of each output of a text preprocessor by name."""
    made = tokenize_of(trained.preprocessor)(["a"])
    return {name: str(tokens.dtype) for name, tokens in made.items()}


def any_size(trained: TrainedModel, target: Format) -> bool:
    """Returns whether the artifact resizes images itself, so that it takes any size.

    ONNX supports TensorFlow's bilinear resizing, but neither antialiasing nor the other filters.
    """
    if trained.kind != "image" or not target.any_size:
        return False
    converter = trained.image_converter
    return target.extra is None or (
        converter.interpolation == "bilinear" and not converter.antialias
    )


def _prepared(images: Any, trained: TrainedModel, resized: bool) -> Any:
    """Returns images as model inputs: the operations of KerasHub's converter as Keras layers."""
    converter = trained.image_converter
    if resized:
        images = keras.layers.Resizing(
            *converter.image_size,
            interpolation=converter.interpolation,
            antialias=converter.antialias,
            crop_to_aspect_ratio=converter.crop_to_aspect_ratio,
            pad_to_aspect_ratio=converter.pad_to_aspect_ratio,
            dtype="float32",
            name="resize",
        )(images)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="scale")(images)


def _own_inputs(model: keras.Model) -> tuple[Any, Any]:
    """Returns new inputs by name, and the same inputs in the structure that the model takes."""
    flat = keras.tree.flatten(model.input)
    names = list(model.input) if isinstance(model.input, Mapping) else None
    if names is None or len(names) != len(flat):
        names = ["inputs"] if len(flat) == 1 else [f"input_{n}" for n in range(len(flat))]
    else:
        names = sorted(names)  # the order in which Keras flattens a mapping
    made = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in zip(names, flat, strict=True)
    }
    given = keras.tree.pack_sequence_as(model.input, list(made.values()))
    return (made if len(made) > 1 else next(iter(made.values()))), given


def _outputs(outputs: Any, objective: Objective) -> dict[str, Any]:
    if not objective.from_logits:
        return {PROBABILITIES: keras.layers.Identity(dtype="float32", name=PROBABILITIES)(outputs)}
    kind = "sigmoid" if objective.kind == MULTI_LABEL else "softmax"
    return {
        PROBABILITIES: keras.layers.Activation(kind, dtype="float32", name=PROBABILITIES)(outputs),
        LOGITS: keras.layers.Identity(dtype="float32", name=LOGITS)(outputs),
    }

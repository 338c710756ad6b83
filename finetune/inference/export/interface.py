"""The inputs, the preprocessing and the outputs of an artifact, as data for other programs."""

from collections.abc import Iterator
from typing import Any

import keras

from finetune.inference.export.formats import Format
from finetune.inference.export.serving import (
    IMAGES,
    LOGITS,
    PROBABILITIES,
    TEXTS,
    any_size,
    token_kinds,
)
from finetune.inference.trained import TrainedModel

VOCABULARY = "tokenizer"
_AXES = {
    IMAGES: ("batch", "height", "width", "channels"),
    PROBABILITIES: ("batch", "classes"),
    LOGITS: ("batch", "classes"),
    TEXTS: ("batch",),
    **dict.fromkeys(("token_ids", "padding_mask", "segment_ids"), ("batch", "tokens")),
}
_WHITE = [255, 255, 255]  # background of transparent pixels


def axis_names(port: str, rank: int) -> tuple[str, ...]:
    """Returns the axis names of an input or output; unknown ones have ``batch``, ``axis_1``, …."""
    known = _AXES.get(port)
    if known is not None and len(known) == rank:
        return known
    return ("batch", *(f"axis_{number}" for number in range(1, rank)))[:rank]


def interface(trained: TrainedModel, model: keras.Model, target: Format, labels: str) -> dict:
    """Returns the description of an artifact in ``export.json``.

    Args:
        trained: Trained model of the run.
        model: Serving model of it; see `finetune.inference.export.serving`.
        target: Format of the artifact.
        labels: Name of the file with the class names.

    Returns:
        ``inputs`` and ``outputs`` with name, shape, axes and dtype; ``preprocessing`` with every step
        from a file or text to the model in order, and whether it is ``inside`` the artifact;
        ``before``, a sentence about the steps that are not; and ``labels``.
    """
    texts = trained.kind == "text" and target.texts
    inputs = [_port(port.name, port.shape, port.dtype) for port in model.inputs]
    if texts:
        inputs = [_port(TEXTS, (None,), "string")]
    elif trained.kind == "image":
        inputs[0]["range"] = [0, 255]
    made: Any = model.output
    steps = list(_steps(trained, target))
    todo = [_in_words(step) for step in steps if not step["inside"]]
    if texts:
        todo = ["import tensorflow_text, which registers the operations of the tokenizer"]
    return {
        "inputs": inputs,
        "outputs": [_port(name, tensor.shape, tensor.dtype) for name, tensor in made.items()],
        "preprocessing": steps,
        "before": "; ".join(todo) or "nothing",
        "labels": labels,
    }


def _port(name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    axes = list(axis_names(name, len(shape)))
    return {"name": name, "shape": list(shape), "axes": axes, "dtype": str(dtype)}


def _steps(trained: TrainedModel, target: Format) -> Iterator[dict[str, Any]]:
    if trained.kind == "text":
        settings = {"sequence_length": int(trained.preprocessor.sequence_length)}
        if not target.texts:
            settings |= {"files": VOCABULARY, "makes": token_kinds(trained)}
        yield {"step": "tokenize", "inside": target.texts, **settings}
    if trained.kind != "image":
        return
    converter = trained.image_converter
    yield {"step": "decode", "inside": False, "channels": "RGB", "bits": 8, "frame": 0}
    yield {"step": "orient", "inside": False, "by": "EXIF orientation"}
    yield {"step": "transparency", "inside": False, "over": _WHITE}
    height, width = trained.image_size or (None, None)
    keep = "stretch"
    if converter.pad_to_aspect_ratio:
        keep = "pad"
    elif converter.crop_to_aspect_ratio:
        keep = "crop"
    yield {
        "step": "resize",
        "inside": any_size(trained, target),
        "height": height,
        "width": width,
        "aspect_ratio": keep,
        "interpolation": converter.interpolation,
        "antialias": bool(converter.antialias),
    }
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    yield {"step": "scale", "inside": True, "scale": scale, "offset": offset}


def _in_words(step: dict[str, Any]) -> str:
    return {
        "decode": lambda: "decode the first frame to RGB with 8 bits per channel",
        "orient": lambda: "apply the EXIF orientation",
        "transparency": lambda: "blend transparent pixels with white",
        "resize": lambda: f"resize to {(step['height'], step['width'])}: {_resizing(step)}",
        "tokenize": lambda: (
            f"tokenize to at most {step['sequence_length']} tokens with keras_hub.models."
            f"TextClassifierPreprocessor.from_preset({VOCABULARY!r}), or with another tokenizer that "
            f"reads the files in {VOCABULARY}/"
        ),
    }[step["step"]]()


def _resizing(step: dict[str, Any]) -> str:
    keeps = {
        "pad": "pad to this aspect ratio",
        "crop": "crop the center to this aspect ratio",
        "stretch": "stretch",
    }[step["aspect_ratio"]]
    smooth = "with" if step["antialias"] else "without"
    return f"{keeps}, {step['interpolation']}, {smooth} antialiasing"

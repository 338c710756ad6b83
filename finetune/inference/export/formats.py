"""The formats of `export` and what they need. Importing this loads no TensorFlow."""

import importlib.util
from dataclasses import dataclass

from finetune.errors import ConfigError, unknown_name
from finetune.launcher import installing

FLAG = "--format"


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        name: what ``--format`` calls it.
        artifact: the file or folder in the output directory.
        runtime: the distribution that runs it.
        packages: modules that it needs beyond what this package depends on.
        extra: of this package, that brings them.
        any_size: whether images of any size go in, where resizing is bilinear; else only those of the
            model's size.
        texts: whether texts go in; else tokens.
        mixed: whether it computes in the precision that the model was trained in; else in float32.
    """

    name: str
    artifact: str
    runtime: str
    packages: tuple[str, ...] = ()
    extra: str | None = None
    any_size: bool = True
    texts: bool = False
    mixed: bool = True


FORMATS = {
    each.name: each
    for each in (
        Format("keras", "model.keras", "keras"),
        Format("saved_model", "saved_model", "tensorflow", texts=True),
        Format(
            "onnx",
            "model.onnx",
            "onnxruntime",
            ("onnx", "onnxruntime", "tf2onnx"),
            "onnx",
            mixed=False,
        ),
        # Delegates of mobile devices want shapes that are fixed.
        Format(
            "litert",
            "model.tflite",
            "ai-edge-litert",
            ("ai_edge_litert",),
            "litert",
            any_size=False,
            mixed=False,
        ),
    )
}


def format_of(name: str) -> Format:
    """Returns the format of a name, once its packages are there.

    Raises:
        ConfigError: for another name, or a package that is not installed.
    """
    if name not in FORMATS:
        raise ConfigError(unknown_name(FLAG, "a format", name, FORMATS))
    found = FORMATS[name]
    missing = [each for each in found.packages if importlib.util.find_spec(each) is None]
    if missing:
        raise ConfigError(
            f"{FLAG} must be a format whose packages are installed. Received: {name}, without "
            f"{', '.join(missing)}. Install them: {installing(found.extra or name)}."
        )
    return found


def refusal(name: str, model: str, reason: str) -> ConfigError:
    """Returns what to say of a model that a format cannot hold."""
    return ConfigError(
        f"{FLAG} must be a format that can hold this model. Received: {name} for {model} ({reason}). "
        f"Use {FLAG} {'keras' if name == 'saved_model' else 'saved_model'}, which runs what Keras runs."
    )

"""The formats of `export` and their requirements. Importing this does not load TensorFlow."""

import importlib.util
from dataclasses import dataclass

from finetune.errors import ConfigError, unknown_name
from finetune.launcher import installing

FLAG = "--format"


@dataclass(frozen=True)
class Format:
    """An export format.

    Args:
        name: Value of ``--format``.
        artifact: Name of the file or folder in the output directory.
        runtime: Distribution package that runs it.
        packages: Modules that it needs beyond the dependencies of this package.
        extra: Extra of this package that installs them.
        any_size: Whether it takes images of any size if the resizing can be part of the artifact;
            otherwise it takes images of the model's size.
        texts: Whether it takes texts; otherwise it takes tokens.
        mixed: Whether it computes in the precision of the training; otherwise in float32.
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
    target.name: target
    for target in (
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
        # Delegates of mobile devices need fixed shapes.
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
    """Returns the format of a name after checking that its packages are installed.

    Raises:
        ConfigError: If the name is unknown or a package is not installed.
    """
    if name not in FORMATS:
        raise ConfigError(unknown_name(FLAG, "a format", name, FORMATS))
    found = FORMATS[name]
    missing = [name for name in found.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{FLAG} must be a format whose packages are installed. Received: {name}, without "
            f"{', '.join(missing)}. Install them: {installing(found.extra or name)}."
        )
    return found


def refusal(name: str, model: str, reason: str) -> ConfigError:
    """Returns the error about a model that a format cannot hold."""
    return ConfigError(
        f"{FLAG} must be a format that can hold this model. Received: {name} for {model} ({reason}). "
        f"Use {FLAG} {'keras' if name == 'saved_model' else 'saved_model'}, which supports every "
        "operation of Keras."
    )

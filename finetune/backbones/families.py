"""Which KerasHub image classifier belongs to which backbone class."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras_hub


def image_classifiers() -> dict[Any, Any]:
    """Returns {backbone class: its ImageClassifier subclass} for every family KerasHub has."""
    found: dict[Any, Any] = {}
    for cls in _subclasses(keras_hub.models.ImageClassifier):
        if cls.backbone_cls is not None and cls.preprocessor_cls is not None:
            found.setdefault(cls.backbone_cls, cls)
    return found


def size_argument(family: Any, with_default: bool = False) -> str | None:
    """Returns the constructor argument that sets the input shape (EfficientNet differs).

    Args:
        family: a KerasHub backbone class.
        with_default: name it only where it may be left out, as in networks of any size.
    """
    parameters = inspect.signature(family.__init__).parameters
    name = "image_shape" if "image_shape" in parameters else "input_shape"
    if with_default and (
        name not in parameters or parameters[name].default is inspect.Parameter.empty
    ):
        return None
    return name


def _subclasses(cls: Any) -> Iterator[Any]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


def classifier_of(backbone: Any) -> Any:
    """Returns KerasHub's classifier of a backbone; None where it has none."""
    text = {c.backbone_cls: c for c in _subclasses(keras_hub.models.TextClassifier)}
    return (text | image_classifiers()).get(type(backbone))

"""The features of a TFDS dataset that hold the example and its label."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from finetune.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Chosen:
    """The features of a dataset that a run reads.

    Args:
        input: Name of the image or text feature.
        label: Name of the class label, or of the sequence of class labels.
        kind: Kind of the examples: ``image`` or ``text``.
        multi_label: Whether an example may have any number of labels.
        classes: Label names in the order of the indices.
    """

    input: str
    label: str
    kind: str
    multi_label: bool
    classes: tuple[str, ...]


def choose(builder: Any, name: str, entry: str | None, label: str | None) -> Chosen:
    """Chooses the features that the config names, else TFDS's supervised pair, else the only ones.

    Args:
        builder: TFDS builder of the dataset.
        name: Name of the dataset for the error message.
        entry: Feature that holds the example; None chooses one.
        label: Feature that holds the label; None chooses one.

    Raises:
        ConfigError: If the dataset has no such features, or several candidates.
    """
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        raise _unfit(name, type(features).__name__)
    inputs = {key: kind for key, value in features.items() if (kind := _kind(value))}
    labels = {key: inner for key, value in features.items() if (inner := _label(value))}
    if not inputs or not labels:
        raise _unfit(name, ", ".join(f"{k}: {type(v).__name__}" for k, v in features.items()))
    pair = builder.info.supervised_keys
    if pair is None or len(pair) != 2 or not all(isinstance(key, str) for key in pair):
        pair = (None, None)
    images = [key for key, kind in inputs.items() if kind == "image"]
    entry = _pick("input", name, entry, pair[0], list(inputs), images or list(inputs))
    label = _pick("label", name, label, pair[1], list(labels), list(labels))
    multi_label = not isinstance(features[label], tfds.features.ClassLabel)
    return Chosen(entry, label, inputs[entry], multi_label, tuple(labels[label].names))


def _kind(feature: Any) -> str | None:
    if type(feature) is tfds.features.Image and feature.np_dtype == np.uint8:
        return "image"
    if type(feature) is tfds.features.Text and feature.np_dtype == np.object_:
        return "text"
    return None


def _label(feature: Any) -> Any:
    inner = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
    return inner if isinstance(inner, tfds.features.ClassLabel) else None


def _pick(
    key: str, name: str, given: str | None, own: str | None, valid: list[str], likely: list[str]
) -> str:
    if given is not None:
        if given not in valid:
            kind = "an image or text" if key == "input" else "a class label"
            raise ConfigError(
                unknown_name(f"dataset.columns.{key}", f"{kind} feature of {name}", given, valid)
            )
        return given
    if own in valid:
        return own
    if len(likely) == 1:
        return likely[0]
    raise ConfigError(
        f"dataset.columns.{key} must name a feature of {name}, which has several candidates. "
        f"Received: null. Valid: {', '.join(valid)}."
    )


def _unfit(name: str, found: str) -> ConfigError:
    return ConfigError(
        "dataset.name must be a classification dataset (an 8-bit image or a text, and a class "
        f"label or a sequence of them). Received: {name} ({found}). Choose another dataset."
    )

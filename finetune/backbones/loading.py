"""Loading of a backbone and its preprocessing from any source.

Only names of closed catalogs and KerasHub's own classes are accepted, so that nothing in a
checkpoint can choose what runs.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError

from finetune.backbones import converters, handles, network, tokenizers
from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.backbones.conversion import load_backbone
from finetune.backbones.coverage import Coverage
from finetune.backbones.directories import KERASHUB, Checkpoint, recognise
from finetune.backbones.families import FAMILIES, size_argument
from finetune.backbones.sizes import Size, own_size, refused_size
from finetune.config import plugins
from finetune.errors import ConfigError, first_line, unknown_name

_UNKNOWN_ARGUMENT = re.compile(r"(unexpected|Unrecognized) keyword argument.*")
_OTHER_SHAPE = re.compile(
    r"variable\.shape=(\(.*?\)), Received: value\.shape=(\(.*?\))\..*?path=(.*?), ", re.DOTALL
)
_DEFAULT_SIZE = 224  # of ImageNet backbones, if a preset does not set a size


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A backbone that is ready for a head, with the preprocessing that makes its inputs.

    Args:
        name: Name of the backbone in the record.
        source: ``bundled``, ``package``, ``directory``, ``kerashub``, ``huggingface`` or
            ``kaggle``.
        backbone: Built backbone with loaded weights.
        kind: Kind of the input, ``image`` or ``text``.
        preprocessor: KerasHub preprocessor, that of the family's classifier if there is one. The
            `image_converter` of an image preprocessor is set to `image_size`, the `sequence_length`
            of a text preprocessor to the number of tokens it makes.
        weights_sha256: Digest of the backbone's weights as loaded.
        coverage: Which weights came from the checkpoint.
        preprocessing: Readable settings of the checkpoint: size, scale, mean, std, interpolation;
            or tokenizer, vocabulary, casing, length.
        image_size: (height, width) that an image backbone is built at; None for text.
        preprocessing_sha256: Digest of all settings that affect how an example is preprocessed.
    """

    name: str
    source: str
    backbone: keras.Model
    kind: str
    preprocessor: Any
    weights_sha256: str
    coverage: Coverage
    preprocessing: dict[str, Any]
    image_size: Size | None = None
    preprocessing_sha256: str = ""

    @property
    def image_converter(self) -> keras_hub.layers.ImageConverter:
        """The image converter of an image backbone."""
        return self.preprocessor.image_converter


@dataclass(frozen=True)
class _Origin:
    """The origin of a backbone: its name and source in the record, and its files."""

    name: str
    source: str
    checkpoint: Checkpoint
    where: str


def load(
    preset: str | None = None,
    path: str | Path | None = None,
    *,
    revision: str | None = None,
    load_weights: bool = True,
    image_size: int | Size | None = None,
    resize: str | None = None,
    sequence_length: int | None = None,
    name: str | None = None,
    where: str = "backbone.path",
) -> LoadedBackbone:
    """Loads a backbone and the preprocessing that turns raw examples into its input.

    Args:
        preset: Name in the catalog (``resnet_mini``, ``minilm_l6``), a KerasHub preset
            (``resnet_18_imagenet``), or a handle: ``hf://owner/name``,
            ``kaggle://owner/model/keras/variation/version``.
        path: Directory of a KerasHub preset, or of a Hugging Face or timm model. Exactly one of
            `preset` and `path` must be given.
        revision: Branch, tag or commit of an ``hf://`` handle; None takes the default branch.
        load_weights: Whether to load the weights; False draws random ones, which
            `keras.utils.set_random_seed` makes reproducible.
        image_size: Pixels per side, or (height, width); None takes the checkpoint's own. Images
            only.
        resize: ``crop`` to the middle, ``pad`` with black, or ``stretch``; None takes the
            checkpoint's own way. Images only.
        sequence_length: Number of tokens; None takes the maximum of the checkpoint. Texts only.
        name: Name of the backbone in the record; None takes that of the preset or directory.
        where: Name of a directory in messages.

    Returns:
        The backbone with its weights and preprocessing. A head in the checkpoint is dropped.

    Raises:
        ConfigError: If the preset or directory cannot be used, there is no network, or the backbone
            refuses the size.
    """
    if (preset is None) == (path is None):
        raise ConfigError(
            "backbone must have exactly one of preset and path. "
            f"Received: preset={preset}, path={path}. Remove one of them."
        )
    if revision is not None and not str(preset).startswith(handles.HF_SCHEME):
        raise ConfigError(
            f"backbone.revision must be null except for {handles.HF_SCHEME} presets. Received: "
            f"{revision} with {preset or path}. Remove it; the version of a kaggle:// handle is its "
            "last part."
        )
    if path is not None:
        directory = Path(path)
        checkpoint = recognise(directory, where, load_weights)
        origin = _Origin(directory.resolve().name, "directory", checkpoint, where)
    else:
        origin = _from_preset(str(preset), revision, load_weights)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    called = name or origin.name
    options = {"image_size": size, "resize": resize, "sequence_length": sequence_length}
    _refuse_foreign_options(called, origin.checkpoint.family.kind, options)
    with _translated(origin):
        if origin.checkpoint.family.kind == "text":
            return _assemble_text(called, origin, load_weights, sequence_length)
        return _assemble_image(called, origin, load_weights, size, resize)


def _from_preset(preset: str, revision: str | None, load_weights: bool) -> _Origin:
    where = "backbone.preset"
    if preset in plugins.names("backbones"):
        directory = plugins.call("backbones", preset, where)
        own = NAMED_BACKBONES.get(preset)
        if own is None:
            where = f"{where} ({preset} of {plugins.origin('backbones', preset)})"
        if not isinstance(directory, str | Path):
            raise ConfigError(
                f"{where} must be a function that returns the directory of a checkpoint. Received: "
                f"{type(directory).__name__}. Correct the function."
            )
        checkpoint = recognise(Path(directory), where, load_weights)
        return _Origin(preset, "package" if own is None else own.source, checkpoint, where)
    if "://" in preset:
        fetched = handles.fetch(preset, revision)
        where = f"{where} ({preset})"  # the path of the cache would say little
        checkpoint = recognise(fetched.directory, where, load_weights)
        return _Origin(fetched.name, fetched.source, checkpoint, where)
    family = next((family for family in FAMILIES if preset in family.backbone.presets), None)
    if family is None and preset in dict(keras_hub.models.Backbone.presets):  # type: ignore[call-overload]
        raise ConfigError(
            f"{where} must be a backbone of a family that can be fine-tuned here: "
            f"{', '.join(family.name for family in FAMILIES)}. Received: {preset}. "
            "Use resnet_18_imagenet or bert_base_en_uncased, for example."
        )
    if family is None:
        known = {preset for family in FAMILIES for preset in family.backbone.presets}
        valid = [*plugins.names("backbones"), *sorted(known)]
        kind = "a bundled or KerasHub preset, or an hf:// or kaggle:// handle"
        raise ConfigError(unknown_name(where, kind, preset, valid))
    files = ("tokenizer.json",) if family.kind == "text" else ()
    network.require(family.backbone.presets[preset]["kaggle_handle"], preset, *files)
    return _Origin(preset, "kerashub", Checkpoint(preset, family, KERASHUB, {}, None), where)


def _refuse_foreign_options(name: str, kind: str, options: Mapping[str, Any]) -> None:
    """Refuses options that do not apply to a backbone of this kind."""
    own = {"text": "sequence_length", "image": "image_size"}[kind]
    foreign = {"text": ("image_size", "resize"), "image": ("sequence_length",)}[kind]
    problems = [
        f"dataset.{key} must be null for the {kind} backbone {name}. "
        f"Received: {options[key]}. Remove it; use dataset.{own} instead."
        for key in foreign
        if options[key] is not None
    ]
    if problems:
        raise ConfigError(problems)


def _assemble_text(
    name: str, origin: _Origin, load_weights: bool, sequence_length: int | None
) -> LoadedBackbone:
    backbone, coverage = load_backbone(origin.checkpoint, load_weights, {}, origin.where)
    preprocessor = tokenizers.load_preprocessor(
        origin.checkpoint, backbone, sequence_length, origin.where
    )
    described = tokenizers.describe(preprocessor)
    digest = weights_sha256(backbone)
    return LoadedBackbone(
        name,
        origin.source,
        backbone,
        "text",
        preprocessor,
        digest,
        coverage,
        preprocessing=described,
        preprocessing_sha256=tokenizers.sha256(preprocessor),
    )


def _assemble_image(
    name: str, origin: _Origin, load_weights: bool, size: Size | None, resize: str | None
) -> LoadedBackbone:
    """Builds converter and backbone at one size: the user's, the backbone's or the converter's."""
    checkpoint, where = origin.checkpoint, origin.where
    family = checkpoint.family
    converter, notes = converters.load_converter(checkpoint, where)
    if resize is not None:
        converter = converters.resizing_by(converter, resize)
    built_at = own_size(checkpoint)
    argument = size_argument(family.backbone)
    target = size or built_at
    if target is None and size_argument(family.backbone, with_default=True) is not None:
        target = converter.image_size or (_DEFAULT_SIZE, _DEFAULT_SIZE)
    arguments: dict[str, Any] = {}
    if target is not None and target != built_at and argument is not None:
        arguments[argument] = (*target, 3)
    try:
        backbone, coverage = load_backbone(checkpoint, load_weights, arguments, where)
    except ValueError as error:
        if size is None:
            raise
        raise refused_size(name, size, built_at, error) from error
    height, width = backbone.input_shape[1:3]
    converter.image_size = (height, width)
    return LoadedBackbone(
        name,
        origin.source,
        backbone,
        "image",
        family.preprocessor(image_converter=converter),
        weights_sha256(backbone),
        coverage,
        preprocessing={**converters.describe(converter), **notes},
        image_size=(height, width),
        preprocessing_sha256=converters.sha256(converter),
    )


def weights_sha256(backbone: keras.Model) -> str:
    """Returns a digest of the path, shape, dtype and bytes of every weight, in order.

    The counters that Keras adds to unnamed layers (``conv2d_3``) depend on what the process has
    built before, and are left out of the paths.
    """
    digest = hashlib.sha256()
    for weight in backbone.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        path = re.sub(r"_\d+(?=/|$)", "", weight.path)
        digest.update(f"{path} {tuple(weight.shape)} {value.dtype}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@contextmanager
def _translated(origin: _Origin) -> Iterator[None]:
    """Turns the errors of KerasHub and its downloaders into a message that says what to do."""
    preset = origin.checkpoint.preset
    try:
        yield
    except ConfigError:
        raise
    except network.errors() as error:
        raise ConfigError(network.message(preset, first_line(error))) from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
        SafetensorError,
        tf.errors.OpError,
    ) as error:
        fix = "Check that the files are complete, or use backbone.preset=resnet_mini."
        unknown = _UNKNOWN_ARGUMENT.search(str(error))
        if unknown is not None:
            fix = (
                f"It was written by another version of KerasHub than the installed "
                f"{keras_hub.__version__}: load it with that version and save it again, or use a newer "
                "release of the model."
            )
        said = first_line(error) if unknown is None else unknown[0]
        shapes = _OTHER_SHAPE.search(str(error))
        if shapes is not None:
            expected, received, path = shapes.groups()
            said = f"{path} has the shape {received}, but {expected} in config.json"
            fix = "Copy config.json and the weights again, from the same model."
        raise ConfigError(
            f"{origin.where} must be a {origin.checkpoint.format} model that KerasHub can load. "
            f"Received: {preset} ({type(error).__name__}: {said}). {fix}"
        ) from error

"""Builds a backbone from a checkpoint: KerasHub's converters, and what they leave out.

Of Hugging Face directories they drop settings that the constructor would take, expect the weights
of some families under a prefix that files of the bare model do not have, and forget one table of
RoBERTa. Each is mended here, and refused where KerasHub computes something else. What its
EfficientNet leaves out of its own config is put back, so that a saved model is the one that trained.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from safetensors import safe_open

from finetune.backbones.directories import HUGGING_FACE, Checkpoint
from finetune.errors import ConfigError

# Exact and approximate: KerasHub takes its own for all of them, 1e-3 apart at most.
_GELU = ("gelu", "gelu_new", "gelu_python", "gelu_fast", "gelu_pytorch_tanh")
_TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


def load_backbone(
    checkpoint: Checkpoint, load_weights: bool, arguments: dict[str, Any], where: str
) -> keras.Model:
    """Returns the backbone, built, with the checkpoint's weights where they are asked for.

    A head that the checkpoint has is left there.

    Args:
        checkpoint: what to load.
        load_weights: False draws random weights.
        arguments: of the constructor, instead of the checkpoint's own, e.g. an image shape.
        where: the config path that names the checkpoint, for messages.

    Raises:
        ConfigError: for a variant that KerasHub would compute differently.
        ValueError: from KerasHub, e.g. for an image shape that does not fit.
    """
    family, config = checkpoint.family, checkpoint.config
    if checkpoint.format != HUGGING_FACE:
        backbone = family.backbone.from_preset(
            checkpoint.preset, load_weights=load_weights, **arguments
        )
        if family.name == "efficientnet":
            _complete_config(backbone)
        return backbone
    _refuse_variants(checkpoint, where)
    left_out = {key: config[named] for key, named in family.left_out if named in config}
    with _as_expected(checkpoint, load_weights) as preset:
        backbone = family.backbone.from_preset(
            preset, load_weights=load_weights, **left_out, **arguments
        )
    if load_weights and family.name == "roberta":
        _add_token_type(backbone, Path(checkpoint.preset))
    return backbone


def _complete_config(backbone: Any) -> None:
    """Lets an EfficientNet say which stages have no residuals, and how wide its top is.

    KerasHub 0.32 takes both and serializes neither: read again, such a model is another one.
    """
    blocks = {layer.name: layer for layer in backbone.layers}
    stages = range(1, len(backbone.stackwise_num_repeats) + 1)
    without = [bool(getattr(blocks.get(f"block{n}a_"), "nores", False)) for n in stages]
    width = backbone.stackwise_width_coefficients[-1]
    left_out = {
        "stackwise_nores_option": without,
        "num_features": round(blocks["top_conv"].filters / width),  # they are multiplied by it
    }
    described = backbone.get_config
    backbone.get_config = lambda: {**described(), **left_out}


def _refuse_variants(checkpoint: Checkpoint, where: str) -> None:
    config = checkpoint.config
    expected = {"position_embedding_type": ("absolute",)}
    if checkpoint.family.name != "dinov3":  # its converter follows hidden_act
        expected |= {"hidden_act": _GELU, "activation": _GELU}
    for key, valid in expected.items():
        if config.get(key) is not None and config[key] not in valid:
            raise ConfigError(
                f"{where} must hold a config.json whose {key} is one that KerasHub computes: "
                f"{', '.join(valid)}. Received: {config[key]}. Use another checkpoint."
            )


@contextmanager
def _as_expected(checkpoint: Checkpoint, load_weights: bool) -> Iterator[str]:
    """Yields the directory, or a copy whose weights have the names that KerasHub looks for."""
    source, prefix = Path(checkpoint.preset), checkpoint.family.prefix
    if not load_weights or prefix == "" or any(n.startswith(prefix) for n in _names(source)):
        yield checkpoint.preset
        return
    with tempfile.TemporaryDirectory(prefix="finetune-weights-") as made:
        shutil.copy(source / "config.json", made)
        for file in _weight_files(source):
            _copy_with_prefix(file, Path(made) / file.name, prefix)
        index = source / "model.safetensors.index.json"
        if index.is_file():
            content = json.loads(index.read_text(encoding="utf-8"))
            names = {prefix + name: file for name, file in content["weight_map"].items()}
            (Path(made) / index.name).write_text(json.dumps({**content, "weight_map": names}))
        yield made


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return [directory / "model.safetensors"]
    shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [directory / each for each in sorted(set(shards))]


def _names(directory: Path) -> Iterator[str]:
    for file in _weight_files(directory):
        with safe_open(file, framework="np") as opened:
            yield from opened.keys()


def _copy_with_prefix(source: Path, target: Path, prefix: str) -> None:
    """Copies a safetensors file under new names: 8 bytes of length, a JSON header, the bytes."""
    with source.open("rb") as old, target.open("wb") as new:
        header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
        renamed = {k if k == "__metadata__" else prefix + k: v for k, v in header.items()}
        text = json.dumps(renamed).encode()
        text += b" " * (-len(text) % 8)  # the format wants the bytes aligned
        new.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(old, new, 1 << 20)


def _add_token_type(backbone: Any, directory: Path) -> None:
    """Adds RoBERTa's one token type to its positions, as it is added to every token."""
    for file in _weight_files(directory):
        with safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118, it is no mapping
                if name.endswith(_TOKEN_TYPES):
                    positions = backbone.embeddings.position_embedding.position_embeddings
                    positions.assign(positions + opened.get_tensor(name)[0])

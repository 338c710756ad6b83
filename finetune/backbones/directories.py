"""Recognition of model directories, with one message that lists everything that is missing.

Nothing in a directory chooses what runs: its config must name a family of the closed list, and no
pickle is ever opened.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.backbones.families import FAMILIES, Family
from finetune.backbones.other_kinds import (
    OWN_MODEL,
    WHOLE_MODEL,
    is_file,
    no_directory,
    quantized,
    refuse_others,
    refuse_quantized,
)
from finetune.backbones.untrusted import (
    check_h5,
    check_objects,
    check_sizes,
    is_of,
    read_json,
    require_inside,
)
from finetune.errors import ConfigError, unknown_name

KERASHUB, HUGGING_FACE, TIMM = "KerasHub", "Hugging Face", "timm"
_KEYS = {KERASHUB: "registered_name", HUGGING_FACE: "model_type", TIMM: "architecture"}
_KERAS_WEIGHTS = ("model.weights.h5", "model.weights.json")  # one file, or an index of shards
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth", "model.pt")
_ASSETS = {"wordpiece": ("vocabulary.txt",), "bpe": ("vocabulary.json", "merges.txt")}
# Settings, tokenizers and weights, which contain no code. No other file is read.
FILES = (
    "config.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "model.weights.h5",
    "model.weights.json",
    "model_*.weights.h5",
    "image_converter.json",
    "preprocessor.json",
    "assets/tokenizer/*",
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that KerasHub can load.

    Args:
        preset: Argument of KerasHub's `from_preset`: a directory, or the name of a preset.
        family: Family of the backbone.
        format: ``KerasHub``, ``Hugging Face`` or ``timm``.
        config: Content of config.json; empty for a preset by name.
        directory: Directory of the files; None for a preset by name.
    """

    preset: str
    family: Family
    format: str
    config: Mapping[str, Any]
    directory: Path | None


def recognise(directory: Path, where: str, load_weights: bool = True) -> Checkpoint:
    """Returns the checkpoint in a directory, after checking that no file is missing.

    Args:
        directory: Directory of a KerasHub preset, or of a Hugging Face or timm model.
        where: Config path that names the directory, for messages.
        load_weights: Whether the weights will be read.

    Raises:
        ConfigError: If the directory has none of these formats or two of them, contains a family
            that is not in the list, or lacks files.
    """
    # KerasHub would take a relative path that is the name of a preset for that preset.
    directory = Path(os.path.abspath(directory))
    config = _read_config(directory, where, load_weights)
    file_format = _format(config, directory, where)
    family = _family(config, file_format, where)
    lacks = list(_lacks(directory, file_format, family, load_weights, where))
    if lacks:
        raise _lacking(where, file_format, directory, lacks)
    check_sizes(config, directory / "config.json", where)
    if file_format == KERASHUB:
        refuse_quantized(config, directory, where)
        check_objects(config, family.backbone, directory / "config.json", where)
        if family.kind == "text":
            file = directory / "tokenizer.json"
            tokenizer = family.preprocessor.tokenizer_cls
            check_objects(read_json(file, where), tokenizer, file, where)
    elif config.get("quantization_config") is not None:
        raise quantized(directory, "quantization_config", where)
    return Checkpoint(str(directory), family, file_format, config, directory)


def complete(directory: Path) -> bool:
    """Returns whether `recognise` accepts the directory."""
    try:
        recognise(directory, "backbone.preset")
    except ConfigError:
        return False
    return True


def _read_config(directory: Path, where: str, load_weights: bool) -> dict[str, Any]:
    if not _is_directory(directory):
        raise no_directory(directory, where)
    if not is_file(directory / "config.json"):
        refuse_others(directory, where)
        lacks = ["config.json"]
        if load_weights and not _any(directory, (*_KERAS_WEIGHTS, *_SAFETENSORS)):
            lacks.append("model.weights.h5 or model.safetensors")
        raise _lacking(where, "KerasHub, Hugging Face or timm", directory, lacks)
    require_inside(directory, (match for name in FILES for match in directory.glob(name)), where)
    return read_json(directory / "config.json", where)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder without permission
        return False


def _format(config: Mapping[str, Any], directory: Path, where: str) -> str:
    """Returns the single format of a directory: that of config.json, with no sign of another."""
    keys = {
        file_format: key for file_format, key in _KEYS.items() if isinstance(config.get(key), str)
    }
    if config.get("model_type") == "timm_wrapper":  # transformers marks timm models so
        del keys[HUGGING_FACE]
    if not keys:
        raise ConfigError(
            f"{where} must be a directory of a KerasHub, Hugging Face or timm model. Received: "
            f"{directory} with a config.json that contains none of {', '.join(_KEYS.values())}. "
            "Write one with KerasHub's save_to_preset, or download the model again."
        )
    signs = [f"{key} in config.json" for key in keys.values()]
    weights = [names[0] for names in (_KERAS_WEIGHTS, _SAFETENSORS) if _any(directory, names)]
    if len(keys) > 1 or len(weights) > 1:
        raise ConfigError(
            f"{where} must be a directory in one format, KerasHub, Hugging Face or timm. Received: "
            f"{directory} with {' and '.join(signs if len(keys) > 1 else weights)}. "
            "Keep the files of one format there."
        )
    return next(iter(keys))


def _family(config: Mapping[str, Any], file_format: str, where: str) -> Family:
    if file_format == KERASHUB:
        registered = config[_KEYS[file_format]]
        known = next((family for family in FAMILIES if is_of(registered, family.backbone)), None)
        if known is not None:
            return known
    names = {
        KERASHUB: lambda family: (family.registered_name,),
        HUGGING_FACE: lambda family: family.model_types,
        TIMM: lambda family: family.architectures,
    }[file_format]
    valid = {name: family for family in FAMILIES for name in names(family)}
    found = str(config[_KEYS[file_format]])
    if found not in valid:
        kind = f"a directory whose {_KEYS[file_format]} names a backbone that this version supports"
        raise ConfigError(unknown_name(where, kind, found, valid))
    return valid[found]


def _lacks(
    directory: Path, file_format: str, family: Family, load_weights: bool, where: str
) -> Iterator[str]:
    """Yields each missing file, the most important ones first."""
    if load_weights:
        names = _KERAS_WEIGHTS if file_format == KERASHUB else _SAFETENSORS
        yield from _lacking_weights(directory, *names, where)
    if family.kind == "text":
        yield from _lacking_tokenizer(directory, file_format, family.tokenizer or "")
    elif file_format == HUGGING_FACE and not (directory / "preprocessor_config.json").is_file():
        yield "preprocessor_config.json"


def _lacking_weights(directory: Path, single: str, index: str, where: str) -> Iterator[str]:
    """Yields the missing weight files, and refuses files that are not weights."""
    names = {single} if (directory / single).is_file() else set()
    if (directory / index).is_file():  # KerasHub prefers the index for safetensors
        shards = read_json(directory / index, where).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            yield f"{index} with a weight_map"
            return
        listed = (shard if isinstance(shard, list) else [shard] for shard in shards.values())
        names |= {str(name) for group in listed for name in group}
    for name in sorted(names or {single}):
        # Shards must be in the directory: an index must not point elsewhere.
        if Path(name).name != name or "\0" in name or not (directory / name).is_file():
            yield name
            continue
        require_inside(directory, [directory / name], where)
        if single.endswith(".h5"):
            check_h5(directory / name, where)


def _lacking_tokenizer(directory: Path, file_format: str, tokenizer: str) -> Iterator[str]:
    def lacking(*names: str) -> list[str]:
        return [name for name in names if not (directory / name).is_file()]

    if file_format == KERASHUB:
        assets = _ASSETS.get(tokenizer, ("vocabulary.spm",))
        yield from lacking("tokenizer.json", *(f"assets/tokenizer/{asset}" for asset in assets))
    elif tokenizer == "wordpiece":
        if len(lacking("vocab.txt", "tokenizer.json")) == 2:
            yield "vocab.txt or tokenizer.json"
        elif len(lacking("tokenizer_config.json", "tokenizer.json")) == 2:
            yield "tokenizer_config.json (it says whether to lower the case)"
    elif tokenizer == "bpe":
        if lacking("vocab.json", "merges.txt") and lacking("tokenizer.json"):
            yield f"{' and '.join(lacking('vocab.json', 'merges.txt'))} or tokenizer.json"
    else:
        yield from lacking(tokenizer)


def _lacking(where: str, file_format: str, directory: Path, lacks: Iterable[str]) -> ConfigError:
    fix = "Add them, or use backbone.preset=resnet_mini."
    if (directory / WHOLE_MODEL).is_file():
        fix = f"Its weights are in {WHOLE_MODEL}, together with a head. {OWN_MODEL}"
    pickled = [name for name in _PICKLED if (directory / name).is_file()]
    if pickled:
        fix = (
            f"{pickled[0]} is not opened, because reading it can run code: convert it to "
            "model.safetensors (transformers: save_pretrained; timm: safetensors.torch.save_file)."
        )
    return ConfigError(
        f"{where} must be a complete directory of a {file_format} model. Received: {directory}, without "
        f"{', '.join(lacks)}. {fix}"
    )


def _any(directory: Path, names: Iterable[str]) -> bool:
    return any((directory / name).is_file() for name in names)

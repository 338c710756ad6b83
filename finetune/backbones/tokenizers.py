"""KerasHub tokenizers and text preprocessors from a checkpoint's own settings.

From Hugging Face directories KerasHub reads neither the setting for accents, nor tokenizer.json,
nor the default of `do_lower_case`, so the tokenizers are made here. Differences between its
WordPiece and the `tokenizers` library are kept, because a saved model must behave like the trained
one: with lower-casing it also folds compatibility characters (ß is ss, ½ is 1⁄2, … is ...) and
joins Korean letters again; it recognises only ASCII spaces, splits at invisible characters instead
of dropping them, and reads special tokens in a text as text.
"""

import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from finetune.backbones.casing import casing, with_casing
from finetune.backbones.directories import KERASHUB, Checkpoint
from finetune.backbones.untrusted import read_json
from finetune.errors import ConfigError

_DEFAULT_LENGTH = 512  # default of KerasHub's preprocessors
_SHORTEST = 3  # start, one token, end
_LONGEST = 1_000_000  # tokenizers without a limit say 1e30


def load_preprocessor(
    checkpoint: Checkpoint, backbone: Any, sequence_length: int | None, where: str
) -> Any:
    """Returns KerasHub's text preprocessor with the checkpoint's tokenizer.

    Args:
        checkpoint: Checkpoint of a text family.
        backbone: Built backbone, which limits the length and the vocabulary.
        sequence_length: Number of tokens; None takes the maximum of checkpoint and backbone.
        where: Config path that names the checkpoint, for messages.

    Raises:
        ConfigError: If KerasHub cannot make the tokenizer, or the length does not fit.
    """
    cls = checkpoint.family.preprocessor
    if checkpoint.format == KERASHUB:
        with warnings.catch_warnings():
            # KerasHub does not close the file of a SentencePiece model.
            warnings.simplefilter("ignore", ResourceWarning)
            tokenizer = cls.tokenizer_cls.from_preset(checkpoint.preset)
    else:
        tokenizer = _MAKERS.get(checkpoint.family.tokenizer or "", _sentencepiece)(
            checkpoint, cls.tokenizer_cls, where
        )
    if tokenizer.vocabulary_size() > backbone.vocabulary_size:
        raise ConfigError(
            f"{where} must contain a tokenizer of at most {backbone.vocabulary_size} tokens, the "
            f"number that the backbone embeds. Received: {tokenizer.vocabulary_size()}. Use the "
            "tokenizer that was published with the backbone."
        )
    length = _sequence_length(checkpoint, backbone, sequence_length, where)
    return cls(tokenizer, sequence_length=length)


def describe(preprocessor: Any) -> dict[str, Any]:
    """Returns what a text preprocessor does, as JSON values."""
    tokenizer = preprocessor.tokenizer
    proto = getattr(tokenizer, "proto", None)
    lower_case, strip_accents = (
        (getattr(tokenizer, "lowercase", False), getattr(tokenizer, "strip_accents", False))
        if proto is None
        else casing(proto)
    )
    return {
        "tokenizer": type(tokenizer).__name__,
        "vocabulary_size": int(tokenizer.vocabulary_size()),
        "lower_case": bool(lower_case),
        "strip_accents": bool(strip_accents),
        "sequence_length": int(preprocessor.sequence_length),
    }


def sha256(preprocessor: Any) -> str:
    """Returns a digest of a text preprocessor: its description and the files of its tokenizer."""
    digest = hashlib.sha256(json.dumps(describe(preprocessor), sort_keys=True).encode())
    with tempfile.TemporaryDirectory() as directory:
        preprocessor.tokenizer.save_assets(directory)
        for file in sorted(Path(directory).iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _sequence_length(checkpoint: Checkpoint, backbone: Any, asked: int | None, where: str) -> int:
    """Returns the requested length, or the smallest one that the files set."""
    most = getattr(backbone, "max_sequence_length", None)
    if asked is not None:
        if asked < _SHORTEST or (most is not None and asked > most):
            limit = f"{_SHORTEST}..{most}" if most is not None else f"at least {_SHORTEST}"
            raise ConfigError(
                f"dataset.sequence_length must be {limit} tokens, the limit of the backbone. "
                f"Received: {asked}. Set null for the checkpoint's own length."
            )
        return asked
    named = [most, *_named_lengths(checkpoint, where)]
    lengths = [size for size in named if isinstance(size, int) and _SHORTEST <= size <= _LONGEST]
    return min(lengths, default=_DEFAULT_LENGTH)


def _named_lengths(checkpoint: Checkpoint, where: str) -> list[Any]:
    if checkpoint.directory is None:
        return []
    if checkpoint.format == KERASHUB:
        config = _optional(checkpoint.directory / "preprocessor.json", where).get("config")
        return [config.get("sequence_length")] if isinstance(config, dict) else []
    sentences = _optional(checkpoint.directory / "sentence_bert_config.json", where)
    if sentences.get("max_seq_length") is not None:
        return [sentences["max_seq_length"]]
    return [
        _optional(checkpoint.directory / "tokenizer_config.json", where).get("model_max_length")
    ]


def _wordpiece(checkpoint: Checkpoint, cls: Any, where: str) -> Any:
    directory = Path(checkpoint.preset)
    config = _optional(directory / "tokenizer_config.json", where)
    fast = _optional(directory / "tokenizer.json", where)
    named = str(config.get("tokenizer_class", ""))
    if "XLMRoberta" in named:
        raise ConfigError(
            f"{where} must contain a WordPiece tokenizer for a BERT backbone. Received: {named} "
            "in tokenizer_config.json. Use a checkpoint with a vocab.txt."
        )
    settings = _casing(config, fast, _optional(directory / "sentence_bert_config.json", where))
    if not settings.pop("split_on_cjk"):
        # KerasHub's tokenizers do not save this setting, and would split after loading.
        raise ConfigError(
            f"{where} must contain a tokenizer that splits Chinese characters. Received: "
            "tokenize_chinese_chars=false in its settings. Use another checkpoint."
        )
    file = directory / "vocab.txt"
    if file.is_file():
        # A list, because KerasHub would strip white-space tokens when it reads the file.
        vocabulary = file.read_text(encoding="utf-8").split("\n")
        vocabulary = [token.rstrip("\r") for token in vocabulary]
        vocabulary = vocabulary[:-1] if vocabulary[-1] == "" else vocabulary
    else:
        ids = _model(fast, "WordPiece", directory, where)["vocab"]
        vocabulary = sorted(ids, key=ids.__getitem__)
    return cls(vocabulary=vocabulary, **settings)


def _casing(config: dict, fast: dict, sentences: dict) -> dict[str, bool]:
    """Returns the settings of BERT's normalizer; as in transformers, tokenizer_config.json wins.

    `strip_accents: null` follows lower-casing (tokenizers' BertNormalizer).
    """
    bert = next(
        (step for step in _normalizers(fast.get("normalizer")) if step["type"] == "BertNormalizer"),
        {},
    )
    lower = config.get("do_lower_case", bert.get("lowercase", True))
    accents = config.get("strip_accents")
    accents = bert.get("strip_accents") if accents is None else accents
    cjk = config.get("tokenize_chinese_chars", bert.get("handle_chinese_chars", True))
    return {
        # sentence-transformers lowers the case itself if its own setting says so.
        "lowercase": bool(lower) or bool(sentences.get("do_lower_case", False)),
        "strip_accents": bool(lower if accents is None else accents),
        "split_on_cjk": bool(cjk),
    }


def _normalizers(normalizer: Any) -> list[dict[str, Any]]:
    if not isinstance(normalizer, dict) or "type" not in normalizer:
        return []
    return [normalizer, *(n for e in normalizer.get("normalizers", ()) for n in _normalizers(e))]


def _bpe(checkpoint: Checkpoint, cls: Any, where: str) -> Any:
    directory = Path(checkpoint.preset)
    files = directory / "vocab.json", directory / "merges.txt"
    if all(file.is_file() for file in files):
        return cls(vocabulary=str(files[0]), merges=str(files[1]))
    model = _model(read_json(directory / "tokenizer.json", where), "BPE", directory, where)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return cls(vocabulary=model["vocab"], merges=merges)


def _sentencepiece(checkpoint: Checkpoint, cls: Any, where: str) -> Any:
    directory = Path(checkpoint.preset)
    proto = (directory / str(checkpoint.family.tokenizer)).read_bytes()
    if checkpoint.family.name == "albert":
        config = _optional(directory / "tokenizer_config.json", where)
        # The defaults are those of transformers' AlbertTokenizer.
        lower = bool(config.get("do_lower_case", True))
        proto = with_casing(proto, lower, not config.get("keep_accents", False))
    return cls(proto=proto)


_MAKERS = {"wordpiece": _wordpiece, "bpe": _bpe}


def _model(fast: dict[str, Any], kind: str, directory: Path, where: str) -> dict[str, Any]:
    """Returns the model in a tokenizer.json, which must be of the given kind."""
    model = fast.get("model")
    found = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or found != kind or not isinstance(model.get("vocab"), dict):
        raise ConfigError(
            f"{where} must contain a tokenizer.json with a {kind} model. Received: {found} in "
            f"{directory}. Use the tokenizer that was published with the backbone."
        )
    return model


def _optional(file: Path, where: str) -> dict[str, Any]:
    return read_json(file, where) if file.is_file() else {}

"""Lower-casing and removal of accents inside a SentencePiece model.

ALBERT's tokenizer does both in Python before SentencePiece sees the text, and KerasHub's tokenizer
has no such step. A SentencePiece model contains a table of character replacements, and KerasHub
saves the whole model. The step is therefore added to the table, so that it also works wherever the
saved model is loaded.
"""

import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as messages

# transformers' AlbertTokenizer also replaces quotation marks of two characters.
_QUOTES = {"``": '"', "''": '"'}
_NO_TEXT = ("Cn", "Co", "Cs")  # unassigned, private, surrogates
_Model: Any = vars(messages)["ModelProto"]  # made at import, invisible to type checkers


def with_casing(proto: bytes, lower_case: bool, strip_accents: bool) -> bytes:
    """Returns the model with lower-casing and accent removal added before its own normalization.

    Args:
        proto: Serialized SentencePiece model.
        lower_case: Whether to lower the case.
        strip_accents: Whether to decompose (NFKD) and drop combining characters.
    """
    own = _normalization(proto)
    model = _Model.FromString(proto)
    with tempfile.TemporaryDirectory(prefix="finetune-tokenizer-") as made:
        rules = Path(made) / "rules.tsv"
        rules.write_text("".join(_rules(own, lower_case, strip_accents)), encoding="utf-8")
        compiled = sentencepiece.SentencePieceNormalizer(rule_tsv=str(rules))
    table = _Model.FromString(compiled.serialized_model_proto())
    model.normalizer_spec.precompiled_charsmap = table.normalizer_spec.precompiled_charsmap
    return model.SerializeToString()


def casing(proto: bytes) -> tuple[bool, bool]:
    """Returns whether a SentencePiece model lowers the case, and whether it drops accents."""
    own = _normalization(proto)
    return own("A") == "a", own("é") == "e"


def _normalization(proto: bytes) -> Callable[[str], str]:
    """Returns the model's own table as a function, without its handling of white space."""
    model = _Model.FromString(proto)
    spec = model.normalizer_spec
    spec.add_dummy_prefix = spec.remove_extra_whitespaces = spec.escape_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return processor.normalize


def _rules(own: Callable[[str], str], lower_case: bool, strip_accents: bool) -> Iterator[str]:
    """Yields a line for each character that is replaced, in composed and decomposed form."""
    for source, target in _QUOTES.items():
        yield _rule(source, target)
    for number in range(sys.maxunicode + 1):
        source = target = chr(number)
        if unicodedata.category(source) in _NO_TEXT:
            continue
        if strip_accents:
            parts = unicodedata.normalize("NFKD", target)
            target = "".join(part for part in parts if not unicodedata.combining(part))
        if lower_case:
            target = target.lower()
        target = own(target)
        for spelling in dict.fromkeys((source, unicodedata.normalize("NFD", source))):
            if spelling != target:
                yield _rule(spelling, target)


def _rule(source: str, target: str) -> str:
    """Returns a line of SentencePiece's rules, with code points in hexadecimal."""
    left, right = (
        " ".join(f"{ord(character):X}" for character in text) for text in (source, target)
    )
    return f"{left}\t{right}\n"

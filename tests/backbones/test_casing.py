import unicodedata

import pytest
import sentencepiece

from finetune.backbones.casing import casing, with_casing
from finetune.backbones.loading import load
from tests.helpers import checkpoints
from tests.helpers.sentences import SENTENCES


def preprocess(text, lower, strip):
    """As `preprocess_text` of transformers' AlbertTokenizer."""
    text = text.replace("``", '"').replace("''", '"')
    if strip:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return text.lower() if lower else text


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strip", [True, False])
def test_the_table_does_what_transformers_does_before(lower, strip):
    proto = checkpoints.sentencepiece()
    before = sentencepiece.SentencePieceProcessor(model_proto=proto)
    made = with_casing(proto, lower, strip)
    after = sentencepiece.SentencePieceProcessor(model_proto=made)
    for text in [*SENTENCES, "``Quoted''", "한국어 ½ ß ﬁ …", "no\u00a0break\u200bhere"]:
        expected = preprocess(text, lower, strip)
        assert after.normalize(text) == before.normalize(expected), text
        assert after.encode(text) == before.encode(expected), text
    assert casing(proto) == (False, False)
    assert casing(made) == (lower, strip)


def test_albert_follows_its_settings(tmp_path):
    directory, _ = checkpoints.albert(tmp_path / "albert")
    loaded = load(path=directory)
    tokenizer = loaded.preprocessor.tokenizer
    assert list(tokenizer("The CÁT")) == list(tokenizer("the cat"))
    assert (loaded.preprocessing["lower_case"], loaded.preprocessing["strip_accents"]) == (
        True,
        True,
    )
    loaded.backbone.save_to_preset(str(tmp_path / "saved"))
    loaded.preprocessor.save_to_preset(str(tmp_path / "saved"))
    again = load(path=tmp_path / "saved")
    assert list(again.preprocessor.tokenizer("The CÁT")) == list(tokenizer("the cat"))
    assert again.preprocessing == loaded.preprocessing
    (directory / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    described = load(path=directory).preprocessing
    assert (described["lower_case"], described["strip_accents"]) == (False, True)

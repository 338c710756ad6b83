"""The bundled docstrings: what is read from sources, how modules are split, the whole set."""

import pytest
import tensorflow_datasets as tfds

from finetune.datasets.bundled import stdlib
from finetune.datasets.bundled.chapters import CHAPTERS
from finetune.datasets.bundled.docstrings import running_version, split_by_module
from finetune.datasets.catalog import BUNDLED_DATASETS
from finetune.datasets.sources import tfds as loading
from finetune.errors import ConfigError

SPLITS = {"train": "train", "validation": "validation", "test": "test"}
SOURCE = '''# -*- coding: latin-1 -*-
"""The module of five w\xf6rds."""
raise RuntimeError("modules are not imported")
class Outer:
    """A class with enough words."""
    def method(self):
        """A method with\\d enough words.

        And a second paragraph.
        """
        def inner(): "An inner function is read."
    def short(self): "Only four words here"
async def late(): "An asynchronous function has one."
def again(): """A class with enough words."""
'''


def test_sources_are_read_and_not_run(tmp_path):
    (tmp_path / "csv.py").write_bytes(SOURCE.encode("latin-1"))
    for name in ("email/charset.py", "email/test/test_it.py", "email/__init__.py", "unknown.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'"Five words for {name} here."')
    found = stdlib.read_docstrings(tmp_path)
    assert list(found) == list(CHAPTERS)
    assert [(docstring.module, docstring.name) for docstring in found["File Formats"]] == [
        ("csv", ""), ("csv", "Outer"), ("csv", "Outer.method"), ("csv", "Outer.method.inner"),
        ("csv", "late"),
    ]  # fmt: skip
    texts = [docstring.text for docstring in found["File Formats"]]
    assert texts[0] == "The module of five wörds."
    assert texts[2] == "A method with\\d enough words.\n\nAnd a second paragraph."
    modules = [docstring.module for docstring in found["Internet Data Handling"]]
    assert modules == ["email", "email.charset"]
    assert sum(map(len, found.values())) == 7


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("a " * 1000, 2000),
        ("b " * 900 + "\n\n" + "c " * 200, 1799),
        ("d " * 1200, 1999),
        ("e" * 2500, 2000),
    ],
)
def test_long_texts_are_cut_at_a_paragraph_or_a_word(text, length):
    assert len(stdlib._shortened(text)) == length


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 70, "b": 20, "c": 10}, {"a": "train", "b": "test", "c": "validation"}),
        ({"a": 1, "b": 1, "c": 98}, {"c": "train", "a": "test", "b": "validation"}),
        ({"a": 2, "b": 1}, {"a": "train", "b": "test"}),
        ({"a": 3}, {"a": "train"}),
    ],
)
def test_modules_go_to_splits_whole(counts, expected):
    assert split_by_module(counts) == expected


def test_the_whole_set(tmp_path):
    load = {"data_dir": str(tmp_path), "splits": SPLITS, "seed": 0}
    dataset = loading.load("docstrings", **load)
    assert dataset.kind == "text" and dataset.classes == tuple(CHAPTERS)
    entry = BUNDLED_DATASETS["docstrings"]
    assert entry.num_classes == len(dataset.classes) == 20
    texts = [text for split in dataset.splits.values() for text in split.examples]
    assert len(set(texts)) == len(texts) >= 0.9 * entry.num_examples
    assert min(len(text.split()) for text in texts) >= 5
    assert max(map(len, texts)) <= 2000
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == set(range(20))
    assert (tmp_path / "docstrings" / running_version()).is_dir()
    modules = [
        {
            row["module"]
            for row in tfds.as_numpy(tfds.load("docstrings", split=s, data_dir=tmp_path))
        }
        for s in SPLITS
    ]
    assert not (modules[0] & modules[1] or modules[0] & modules[2] or modules[1] & modules[2])
    assert loading.load("docstrings", **load).fingerprint == dataset.fingerprint
    other = next(name for name in ("py311", "py312") if name != running_version())
    with pytest.raises(ConfigError, match=f"dataset.config must be {running_version()}.*{other}"):
        loading.load("docstrings", config=other, **load)

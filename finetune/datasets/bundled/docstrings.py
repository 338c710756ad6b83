"""Docstrings of the Python standard library as a TFDS builder that needs no network."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from finetune.datasets.bundled.chapters import CHAPTERS
from finetune.datasets.bundled.stdlib import Docstring, read_docstrings
from finetune.errors import ConfigError

_DESCRIPTION = """
Docstrings of modules, classes, functions and methods of the Python standard library, of at least
5 words and cut to the paragraphs within 2,000 characters, labelled with the chapter of the library
reference that the module is in. They are read from the sources of the running interpreter; the
config is its version. No module is in two splits, and no text occurs twice.
Licence: PSF-2.0.
"""
_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_VERSIONS = ("py311", "py312", "py313")


def running_version() -> str:
    """Returns the name of the config for the running interpreter, e.g. ``py311``."""
    return f"py{sys.version_info.major}{sys.version_info.minor}"


class Docstrings(tfds.core.GeneratorBasedBuilder):
    """About 7,000 texts of 20 classes. The splits are fixed, by module."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [  # the first one is the default
        tfds.core.BuilderConfig(name=name, description=f"Python {name[2]}.{name[3:]}")
        for name in dict.fromkeys([running_version(), *_VERSIONS])
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(doc="the docstring, without its indentation"),
                    "label": tfds.features.ClassLabel(names=list(CHAPTERS)),
                    "module": tfds.features.Text(doc="dotted name"),
                    "object": tfds.features.Text(doc="name in the module; empty for itself"),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://docs.python.org/3/library/",
            license="PSF-2.0",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        config: Any = self.builder_config
        if config.name != running_version():
            raise ConfigError(
                f"dataset.config must be {running_version()}, for the running Python, or be "
                f"prepared in dataset.data_dir. Received: {config.name}. Set dataset.config=null."
            )
        found = read_docstrings()
        parts: dict[str, str] = {}
        for texts in found.values():
            counts: dict[str, int] = {}
            for docstring in texts:
                counts[docstring.module] = counts.get(docstring.module, 0) + 1
            parts |= split_by_module(counts)
        return {name: self._generate_examples(found, parts, name) for name in _SHARES}

    def _generate_examples(
        self, found: Mapping[str, list[Docstring]], parts: Mapping[str, str], part: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for chapter, texts in found.items():
            for number, docstring in enumerate(texts):
                if parts[docstring.module] == part:
                    yield (
                        f"{chapter}/{number:04}",
                        {
                            "text": docstring.text,
                            "label": chapter,
                            "module": docstring.module,
                            "object": docstring.name,
                        },
                    )


def split_by_module(counts: Mapping[str, int]) -> dict[str, str]:
    """Returns the split of each module in a chapter: 70 % of its texts train, 10 %, 20 %.

    The largest module trains. Each other module, by size, goes to the split that lacks most texts,
    and to a split without any module first. With three modules or more, no split is empty.

    Args:
        counts: Number of texts of each module.
    """
    total = sum(counts.values())
    missing = {part: share * total for part, share in _SHARES.items()}
    done: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        left = len(counts) - len(done)
        empty = [part for part in _SHARES if part not in done.values()]
        candidates = empty if left <= len(empty) else list(_SHARES)
        part = max(candidates, key=missing.__getitem__) if done else "train"
        done[name] = part
        missing[part] -= counts[name]
    return done

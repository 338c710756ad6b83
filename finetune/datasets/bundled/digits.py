"""scikit-learn's handwritten digits as a TFDS builder that needs no network."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_DESCRIPTION = """
1,797 handwritten digits, 8x8 pixels, 16 grey levels scaled to 0..255: the test part of "Optical
Recognition of Handwritten Digits" (UCI Machine Learning Repository), as scikit-learn ships it.
Licence: CC BY 4.0.
"""
_CITATION = """
@misc{alpaydin1998optical,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  year = {1998},
  publisher = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49},
}
"""


class Digits(tfds.core.GeneratorBasedBuilder):
    """900 training, 100 validation and 797 test images. The splits are fixed and stratified."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        pixels, labels = load_digits(return_X_y=True)
        images = np.round(pixels.reshape(-1, 8, 8, 1) * 255 / 16).astype(np.uint8)
        rest, test = train_test_split(
            np.arange(len(labels)), test_size=797, stratify=labels, random_state=0
        )
        train, validation = train_test_split(
            rest, test_size=100, stratify=labels[rest], random_state=0
        )
        parts = {"train": train, "validation": validation, "test": test}
        return {
            name: self._generate_examples(images, labels, np.sort(rows))
            for name, rows in parts.items()
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            yield int(row), {"image": images[row], "label": int(labels[row])}

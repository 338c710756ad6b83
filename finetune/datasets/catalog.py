"""The bundled datasets, which need no download. Importing this module loads no TensorFlow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetEntry:
    """One bundled dataset, as the catalog lists it."""

    name: str
    description: str
    num_examples: int
    num_classes: int
    licence: str


BUNDLED_DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        name="digits",
        description="handwritten digits, 8x8 grey, from scikit-learn; no download",
        num_examples=1797,
        num_classes=10,
        licence="CC BY 4.0",
    ),
    "docstrings": DatasetEntry(
        name="docstrings",
        description="docstrings of the Python library by chapter (counted in 3.11); no download",
        num_examples=7069,
        num_classes=20,
        licence="PSF-2.0",
    ),
}

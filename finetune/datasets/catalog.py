"""The datasets that need no download. Importing this loads no TensorFlow."""

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
}

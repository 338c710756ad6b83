"""What the function of a dataset plug-in returns. Importing it loads no TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Pair = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of a dataset as a function of the user's has read them.

    Each split is a pair of inputs and labels. Inputs are texts (a list or array of str), image files
    (a list of `pathlib.Path`), encoded images (a list of bytes) or pixels of 0..255 (an array of
    shape (n, height, width) or (n, height, width, 1 or 3)). Labels are class indices (n,), class
    names (n,), or 0 and 1 of shape (n, classes) where an example may have several labels.

    Args:
        train: Examples to train on.
        validation: Examples that every epoch is measured on; None: a tenth of `train` is held out.
        test: Examples that the trained model is measured on; None: a tenth of `train` is held out.
        classes: Class names in the order of the indices; None: the sorted names, or the indices.
    """

    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    classes: Sequence[str] | None = None

"""What a user should know of the data before anything is trained, one line each."""

from collections.abc import Iterator

from finetune.datasets.dataset import Dataset, split_line
from finetune.datasets.images.cleaning import typical_size
from finetune.datasets.names import look_alikes

_SMALL = 96  # pixels a side: a backbone that sees fewer was not made for photographs
_MUCH_LARGER, _FAR_TOO_LARGE = 4, 16  # times the side that a small backbone sees, and any other


def notices(dataset: Dataset, backbone: str, image_size: tuple[int, int] | None) -> Iterator[str]:
    """Yields which folder or file is which split, and warnings about classes and sizes of images.

    Args:
        dataset: all splits.
        backbone: its name.
        image_size: (height, width) that the backbone sees; None for all but images.
    """
    if dataset.used:
        yield split_line(dataset.used, dataset.unused)
    for note in dataset.notes:
        yield f"warning: {note}"
    for one, other in look_alikes(dataset.classes):
        yield f"warning: classes that look alike: {ascii(one)}, {ascii(other)}"
    seen = max(image_size or (0, 0))
    width, height = typical_size(dataset.splits["train"])
    times = min(width, height) / max(seen, 1)
    if seen and times >= (_MUCH_LARGER if seen <= _SMALL else _FAR_TOO_LARGE):
        yield (
            f"warning: the training images are about {width} × {height} pixels and "
            f"{backbone} sees {seen} × {seen}: most of their detail is lost. For photographs "
            "choose a backbone that was trained on them, for example backbone=efficientnet_b0, "
            "or give this one more pixels with dataset.image_size=N."
        )

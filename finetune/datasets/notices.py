"""What a user should know about the data before training starts, one line each."""

from collections.abc import Iterator

from finetune.datasets.dataset import Dataset, split_line
from finetune.datasets.images.cleaning import typical_size
from finetune.datasets.names import look_alikes

_SMALL = 96  # pixels per side: backbones with smaller inputs are not made for photographs
_MUCH_LARGER, _FAR_TOO_LARGE = 4, 16  # ratio to the input of a small backbone, of any other


def notices(dataset: Dataset, backbone: str, image_size: tuple[int, int] | None) -> Iterator[str]:
    """Yields the folder or file of each split, and warnings about class names and image sizes.

    Args:
        dataset: The dataset with all its splits.
        backbone: Name of the backbone.
        image_size: (height, width) of the backbone's input; None if it takes no images.
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

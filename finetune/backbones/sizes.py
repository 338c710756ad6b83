"""The image size of a checkpoint, and the error for other sizes."""

from finetune.backbones.directories import HUGGING_FACE, KERASHUB, Checkpoint
from finetune.backbones.families import size_argument
from finetune.errors import ConfigError, first_line

Size = tuple[int, int]


def refused_size(name: str, size: Size, own: Size | None, error: ValueError) -> ConfigError:
    """Returns the error for an image size that the backbone refuses.

    Args:
        name: Name of the backbone.
        size: Requested size.
        own: Size of the checkpoint; None if it takes images of any size.
        error: Error of KerasHub.
    """
    expected = f"a size that {name} accepts" if own is None else f"{_sides(own)} for {name}"
    reason = first_line(error)
    if "position_embedding" in reason:
        reason = "the checkpoint has one position embedding for each patch of its own image size"
    return ConfigError(
        f"dataset.image_size must be {expected}. Received: {_sides(size)} ({reason}). Set null "
        "for the backbone's own size; all images are resized to it."
    )


def _sides(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}×{size[1]}"


def own_size(checkpoint: Checkpoint) -> Size | None:
    """Returns the size that the config fixes, or None if images of any size work."""
    if checkpoint.format == KERASHUB:
        shape = (checkpoint.config.get("config") or {}).get(
            size_argument(checkpoint.family.backbone)
        )
        return (shape[0], shape[1]) if shape and None not in shape else None
    # DINO interpolates its positions; its preprocessor sets the size.
    if checkpoint.format == HUGGING_FACE and not checkpoint.family.name.startswith("dino"):
        size = checkpoint.config["image_size"]
        return (size, size)
    return None

"""Images that TensorFlow cannot decode, or not as they are meant to be seen, to plain PNG."""

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from finetune.datasets.images.files import PILLOW_FORMATS
from finetune.datasets.images.headers import DAMAGED, TOO_MANY, BadImage, require_size

VERSION = 1  # goes up when what a model sees of a converted or turned image changes


def to_png(images: Sequence[bytes], threads: int) -> list[bytes | BadImage]:
    """Returns 8-bit RGB PNG files of the first frames, upright and over white; or what is wrong.

    Args:
        images: encoded, of the kinds that `headers.way_to_decode` calls `CONVERT`.
        threads: that convert at once.
    """
    if not images:
        return []
    with warnings.catch_warnings():  # Pillow's say nothing about which file, or what to do
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(_converted, images))


def _converted(data: bytes) -> bytes | BadImage:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            require_size(*image.size)
            png = io.BytesIO()
            _plain(image).save(png, "PNG", compress_level=1)
            return png.getvalue()
    except BadImage as error:
        return error
    except Image.DecompressionBombError:
        return BadImage(TOO_MANY)
    except Exception:  # Pillow's decoders raise whatever damaged bytes lead them to
        return BadImage(DAMAGED)


def _plain(image: Any) -> Any:
    """Returns the first frame of an opened image as RGB: upright, 8 bit, over white."""
    from PIL import Image, ImageOps

    if image.mode == "I" and image.format == "PPM":  # Pillow scales its values to 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("32-bit values, of no known scale")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # as TensorFlow does
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")

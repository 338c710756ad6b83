"""Conversion to PNG of images that TensorFlow cannot decode, or not as viewers show them."""

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from finetune.datasets.images.files import PILLOW_FORMATS
from finetune.datasets.images.headers import DAMAGED, TOO_MANY, BadImage, require_size

VERSION = 1  # increases when converted or rotated images look different to a model


def to_png(images: Sequence[bytes], threads: int) -> list[bytes | BadImage]:
    """Returns the first frames as 8-bit RGB PNG files, upright and over white, or their errors.

    Args:
        images: Encoded images that `headers.way_to_decode` marks as `CONVERT`.
        threads: Number of conversion threads.
    """
    if not images:
        return []
    with warnings.catch_warnings():  # Pillow's warnings name neither the file nor a fix
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
    except Exception:  # Pillow's decoders raise all kinds of errors on damaged data
        return BadImage(DAMAGED)


def _plain(image: Any) -> Any:
    """Returns the first frame of an opened image as RGB: upright, 8 bit, over white."""
    from PIL import Image, ImageOps

    if image.mode == "I" and image.format == "PPM":  # Pillow scales its values to 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("32-bit values of unknown scale")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # as TensorFlow does
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")

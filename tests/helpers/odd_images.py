"""Images of unusual formats and modes, each with the pixels that a viewer would show."""

import io

import numpy as np
from PIL import Image

# Over white: 10 * 102/255 + 255 * 153/255 = 157; 200 * 0.4 + 153 = 233; 0 + 153.
CLEAR, HALF, SEEN = (10, 200, 0, 0), (10, 200, 0, 102), (157, 233, 153)
WHITE = (255, 255, 255)


def encoded(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def plain(color, mode="RGB", size=(2, 2)):
    return Image.new(mode, size, color)


def palette(kind, **more):
    """Two pixels of color 1 and two of color 0."""
    image = Image.new("P", (2, 2))
    image.putpalette([9, 8, 7, 10, 200, 0])
    image.putdata([1, 1, 0, 0])
    return encoded(image, kind, **more)


def grey16(kind):
    values = np.array([[0x0000, 0x1234], [0x80FF, 0xFFFF]], np.uint16)
    return encoded(Image.fromarray(values), kind)


def animation(kind, **more):
    frames = [plain((255, 0, 0)), plain((0, 0, 255))]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **more)


def all_of(color):
    return [[color] * 2] * 2


GREY16 = [[(0, 0, 0), (0x12,) * 3], [(0x80,) * 3, WHITE]]  # the upper 8 bits
TOP = [[(10, 200, 0)] * 2, [(9, 8, 7)] * 2]
ODD = {
    "RGBA.png": (encoded(plain(HALF, "RGBA"), "PNG"), all_of(SEEN)),
    "clear.png": (encoded(plain(CLEAR, "RGBA"), "PNG"), all_of(WHITE)),
    "LA.png": (encoded(plain((10, 102), "LA"), "PNG"), all_of((157, 157, 157))),
    "palette with alpha.png": (
        palette("PNG", transparency=bytes([255, 102])), [[SEEN] * 2, [(9, 8, 7)] * 2],
    ),
    "one clear color.png": (
        encoded(plain((1, 2, 3)), "PNG", transparency=(1, 2, 3)), all_of(WHITE),
    ),
    "16 bit.png": (grey16("PNG"), GREY16),
    "16 bit.tif": (grey16("TIFF"), GREY16),
    "1 bit.png": (encoded(plain(1, "1"), "PNG"), all_of(WHITE)),
    "grey.jpg": (encoded(plain(77, "L"), "JPEG", quality=100), all_of((77, 77, 77))),
    "CMYK.jpg": (encoded(plain((0, 255, 255, 0), "CMYK"), "JPEG"), all_of((255, 0, 0))),
    "CMYK.tiff": (encoded(plain((0, 255, 255, 0), "CMYK"), "TIFF"), all_of((255, 0, 0))),
    "animated.gif": (animation("GIF"), all_of((255, 0, 0))),
    "animated.webp": (animation("WEBP", lossless=True), all_of((255, 0, 0))),
    "clear.gif": (palette("GIF", transparency=1), [[WHITE] * 2, [(9, 8, 7)] * 2]),
    "RGBA.webp": (
        encoded(plain(HALF, "RGBA"), "WEBP", lossless=True, exact=True), all_of(SEEN),
    ),
    "RGBA.tif": (encoded(plain(HALF, "RGBA"), "TIFF"), all_of(SEEN)),
    "plain.webp": (encoded(plain((10, 20, 30)), "WEBP", lossless=True), all_of((10, 20, 30))),
    "plain.bmp": (encoded(plain((10, 20, 30)), "BMP"), all_of((10, 20, 30))),
    "palette.bmp": (palette("BMP"), TOP),
    "palette.png": (palette("PNG"), TOP),
    "UPPER.PNG": (encoded(plain((1, 2, 3)), "PNG"), all_of((1, 2, 3))),
    "PNG inside.jpg": (encoded(plain((1, 2, 3)), "PNG"), all_of((1, 2, 3))),
    "GIF inside.png": (palette("GIF"), TOP),
    "naïve 画像 \U0001f600.png": (encoded(plain((4, 5, 6)), "PNG"), all_of((4, 5, 6))),
    "new\nline.png": (encoded(plain((4, 5, 6)), "PNG"), all_of((4, 5, 6))),
}  # fmt: skip

"""The headers of encoded images: their size, and how to decode them as they should be seen.

Nothing is decoded, and the suffix of the file does not count.
"""

import struct

from finetune.datasets.images.files import is_heic, pillow_format

MAX_PIXELS = 178_956_970  # 512 MiB decoded, the limit of Pillow and TensorFlow
CONVERT = 0  # TensorFlow cannot decode the image, or not as it is meant to be seen
UPRIGHT = 1  # 1..8: orientation as in EXIF (CIPA DC-008, 4.6.4), rotated or mirrored except 1
ALPHA = 16  # added to the orientation if there is transparency, which TensorFlow makes black
DAMAGED = "cut short or damaged"
TOO_MANY = f"more than {MAX_PIXELS:,} pixels"
_ORIENTATION = 0x0112
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers with width and height
_ALONE = frozenset([0x01, *range(0xD0, 0xDA)])  # JPEG markers with no length


class BadImage(Exception):
    """A short description of why an image cannot be used."""


def way_to_decode(data: bytes) -> int:
    """Returns `CONVERT`, or an orientation 1..8, plus `ALPHA` for images with transparency.

    Args:
        data: Encoded image.

    Raises:
        BadImage: If the format is unknown, the header is truncated, or there are more pixels than
            `MAX_PIXELS`.
    """
    if not data:
        raise BadImage("empty")
    try:
        width, height, way = header_of(data)
    except (struct.error, IndexError):
        raise BadImage("cut short in its header") from None
    require_size(width, height)
    return way


def require_size(width: int, height: int) -> None:
    """Refuses images with more pixels than `MAX_PIXELS`.

    Raises:
        BadImage: If there are more.
    """
    if width * height > MAX_PIXELS:
        raise BadImage(TOO_MANY)


def header_of(data: bytes) -> tuple[int, int, int]:
    """Returns width and height (0, 0 if only Pillow can tell), and the way to decode."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", data, 6)
        return width, height, CONVERT  # TensorFlow ignores transparency, and fills frames up
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return 0, 0, CONVERT
    if is_heic(data):
        raise BadImage("HEIC, which Pillow cannot read; convert it to JPEG")
    if pillow_format(data) is not None:
        return 0, 0, CONVERT
    raise BadImage("not an image of a known format")


def _jpeg(data: bytes) -> tuple[int, int, int]:
    position, orientation = 2, UPRIGHT
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height, orientation
        if marker == 0xDA:
            break
        if marker in (0x00, 0xFF):
            position += 1
        elif marker in _ALONE:
            position += 2
        else:
            end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
            if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
                orientation = _orientation(data[position + 10 : end])
            position = end
    raise BadImage("cut short in its header")


def _png(data: bytes) -> tuple[int, int, int]:
    width, height, _, color = struct.unpack_from(">IIBB", data, 16)
    alpha, orientation = ALPHA if color in (4, 6) else 0, UPRIGHT
    position = 33
    while position + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        if name == b"IDAT":
            break
        if name == b"tRNS":
            alpha = ALPHA
        elif name == b"eXIf":
            orientation = _orientation(data[position + 8 : position + 8 + size])
        position += size + 12
    return width, height, alpha + orientation


def _bmp(data: bytes) -> tuple[int, int, int]:
    if struct.unpack_from("<I", data, 14)[0] < 40:  # an OS/2 header
        return 0, 0, CONVERT
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    plain = bits == 24 and compression == 0  # TensorFlow supports no palette
    return abs(width), abs(height), UPRIGHT if plain else CONVERT


def _webp(data: bytes) -> tuple[int, int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, UPRIGHT
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        alpha = bits >> 28 & 1
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, CONVERT if alpha else UPRIGHT
    if kind != b"VP8X" or len(data) < 30:
        raise BadImage("cut short in its header")
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    return width, height, CONVERT if data[20] & 0b011010 else UPRIGHT  # alpha, EXIF, animation


def _orientation(exif: bytes) -> int:
    """Returns the orientation in EXIF data, 1..8, or `UPRIGHT` if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        first = struct.unpack_from(f"{order}I", exif, 4)[0]
        for entry in range(struct.unpack_from(f"{order}H", exif, first)[0]):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass  # EXIF data may be damaged in an intact image
    return UPRIGHT

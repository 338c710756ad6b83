"""Recognition of image files by content, because a suffix may be wrong or missing."""

import os
import stat
from pathlib import Path

# Formats that Pillow decodes without running another program.
PILLOW_FORMATS = (
    *("AVIF", "BMP", "DDS", "GIF", "ICNS", "ICO", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI"),
    *("SGI", "SUN", "TGA", "TIFF", "WEBP"),
)
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm"),
    *(".pnm", ".ico", ".icns", ".tga", ".qoi", ".dds", ".pcx", ".psd", ".sgi", ".rgb", ".ras"),
    *(".heic", ".heif"),  # unreadable, but reported by name instead of skipped
)
# These look like TIFF files, but their first image is a small preview.
_CAMERA_RAW = (".dng", ".nef", ".cr2", ".arw", ".orf", ".rw2", ".pef", ".srw")
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
_TGA_END = b"TRUEVISION-XFILE.\0"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")
_HEAD = 64


def is_image(path: str | Path) -> bool:
    """Returns whether a file is an image, by its suffix or else by its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in _CAMERA_RAW:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would not end
            return False
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            if has_signature(head):
                return True
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_TGA_END)))
            if pillow_format(head + file.read()) is None:
                return False
        return _opens(path)
    except (OSError, ValueError):
        return False


def has_signature(head: bytes) -> bool:
    """Returns whether data starts with the signature of an image format."""
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or webp or is_heic(head)


def is_heic(head: bytes) -> bool:
    """Returns whether data is HEIC, the format of many phones, which Pillow cannot read."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def pillow_format(data: bytes) -> str | None:
    """Returns the Pillow format that the first bytes suggest, or None."""
    from PIL import Image

    Image.init()
    for name in PILLOW_FORMATS:
        accept = Image.OPEN[name][1] if name in Image.OPEN else None
        if accept is not None and accept(data[:_HEAD]) is True:
            return name
    return "TGA" if data.endswith(_TGA_END) else None


def _opens(path: str | Path) -> bool:
    """Returns whether Pillow can parse the header, because a text may start with "P5" too."""
    from PIL import Image

    try:
        with Image.open(path, formats=PILLOW_FORMATS):
            return True
    except Exception:  # Pillow's parsers raise all kinds of errors on other data
        return False

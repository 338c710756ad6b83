"""Files are images by what is in them; every format that Pillow reads is seen as a person sees it."""

import io

import numpy as np
import pytest
from PIL import Image

from finetune.datasets.images.conversion import to_png
from finetune.datasets.images.files import PILLOW_FORMATS, is_image
from finetune.datasets.images.headers import CONVERT, UPRIGHT, BadImage, way_to_decode
from finetune.datasets.sources.folder import load_folder

COLOR = (10, 200, 90)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def encoded(kind, mode="RGB", color=COLOR, **more):
    file = io.BytesIO()
    Image.new(mode, (16, 16), color).save(file, kind, **more)
    return file.getvalue()


KINDS = {
    "AVIF": {}, "BMP": {}, "DDS": {}, "GIF": {}, "ICO": {}, "JPEG2000": {}, "PCX": {}, "PNG": {}, "PPM": {},
    "QOI": {}, "SGI": {}, "TGA": {}, "TIFF": {}, "WEBP": {"lossless": True},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_pillow_reads_is_read_without_a_suffix(tmp_path, kind):
    data = encoded(kind, **KINDS[kind])
    (tmp_path / "x").write_bytes(data)
    (tmp_path / "x.txt").write_bytes(data)
    assert kind in PILLOW_FORMATS
    assert is_image(tmp_path / "x") and is_image(tmp_path / "x.txt")
    if way_to_decode(data) == CONVERT:
        (data,) = to_png([data], 1)
        assert isinstance(data, bytes) and way_to_decode(data) == UPRIGHT
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(pixels - COLOR).max() <= (4 if kind in ("AVIF", "JPEG2000", "GIF") else 0)


def test_texts_and_other_files_are_no_images(tmp_path):
    for name, data in {
        "P5.txt": b"P5 is how this text begins",
        "python": b"Python",
        "pcx": b"\n\5 two bytes of PCX, and no more",
        "empty": b"",
        "a.json": b"{}",
        "raw.dng": encoded("TIFF"),
        "zip": b"PK\3\4" + bytes(60),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert not is_image(tmp_path / name), name
    assert not is_image(tmp_path) and not is_image(tmp_path / "nowhere")


def test_16_bit_pgm_has_its_upper_8_bits():
    data = b"P5\n2 1\n65535\n" + bytes([0x12, 0x34, 0xFF, 0xFF])
    (png,) = to_png([data], 1)
    assert isinstance(png, bytes)
    assert np.asarray(Image.open(io.BytesIO(png)))[0, :, 0].tolist() == [0x12, 0xFF]


def test_heic_is_named_and_not_passed_over(tmp_path):
    with pytest.raises(BadImage, match="HEIC, which Pillow cannot read; convert it to JPEG"):
        way_to_decode(HEIC)
    for name in ("photo.jpg", "photo.HEIC", "photo"):
        (tmp_path / name).write_bytes(HEIC)
        assert is_image(tmp_path / name)


def test_a_folder_of_images_with_wrong_and_missing_suffixes(tmp_path):
    files = {
        "a/1.jfif": encoded("JPEG"), "a/2.jpe": encoded("PNG"), "a/3": encoded("WEBP"),
        "a/4.dat": encoded("JPEG"), "b/1.png": encoded("AVIF"), "b/2.jp2": encoded("JPEG2000"),
        "b/3.ppm": encoded("PPM"), "b/4.txt": b"notes",
    }  # fmt: skip
    for part in ("train", "val", "test"):
        for name, data in files.items():
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / part / name).write_bytes(data)
    dataset = load_folder(str(tmp_path), seed=0)
    assert dataset.splits["train"].labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert dataset.ignored == {".txt": 3}

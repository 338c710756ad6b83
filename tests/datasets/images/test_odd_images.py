"""Images of every kind are seen as a person sees them; pixel values are worked out by hand."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from finetune.datasets import pipeline
from finetune.datasets.images import cleaning, headers
from finetune.datasets.images.conversion import to_png
from finetune.datasets.images.headers import ALPHA, CONVERT, UPRIGHT, way_to_decode
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ImageReader
from finetune.datasets.sources.folder import load_folder
from finetune.datasets.sources.table import load_table

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


def pixels(dataset, part, size=(2, 2)):
    split = dataset.splits[part]
    given = Examples(split, ImageReader(size), split.labels)
    (batch,) = pipeline.single_pass(given, batch_size=len(split.labels), view=None)
    return batch.numpy()


def folder(root, files):
    """All files in test; an ordinary training and validation set."""
    for part in ("train", "val", "test"):
        for row, name in enumerate(("a", "b")):
            (root / part / name).mkdir(parents=True)
            (root / part / name / "0.png").write_bytes(encoded(plain((row, 0, 0)), "PNG"))
    for name, data in files.items():
        (root / "test" / "a" / name).write_bytes(data)
    return load_folder(str(root), seed=0, skip=True)


def test_every_kind_is_seen_as_it_is_meant(tmp_path):
    dataset = folder(tmp_path, {name: data for name, (data, _) in ODD.items()})
    assert dataset.skipped == () and dataset.ignored == {}
    split = dataset.splits["test"]
    assert split.num_examples == len(ODD) + 2
    seen = dict(zip(split.sources, pixels(dataset, "test"), strict=True))
    for name, (_, expected) in ODD.items():
        assert seen[f"test/a/{name}"].tolist() == np.asarray(expected).tolist(), name


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientations_are_turned_back(tmp_path, kind):
    # As the picture is to be seen: red, green / blue, white / black, yellow (blocks of 16 pixels).
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), WHITE, (0, 0, 0), (255, 255, 0)]
    upright = np.asarray(colors, np.uint8).reshape(3, 2, 3).repeat(16, 0).repeat(16, 1)
    # EXIF says where row 0 and column 0 of what is stored belong: CIPA DC-008, table 6.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: upright.transpose(1, 0, 2)[:, ::-1],
    }  # fmt: skip
    more = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    files = {}
    for orientation, image in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"{orientation}.{kind}"] = encoded(
            Image.fromarray(np.ascontiguousarray(image)), kind, exif=exif, **more
        )
    dataset = folder(tmp_path, {})
    table = "image,label\n" + "".join(f"{name},{n % 2}\n" for n, name in enumerate(files))
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.csv").write_text(table)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    dataset = load_table(str(tmp_path), seed=0)
    for row, image in enumerate(pixels(dataset, "test", size=(48, 32))):
        np.testing.assert_allclose(image, upright, atol=3, err_msg=f"orientation {row + 1}")


def test_sizes_at_both_ends(tmp_path):
    files = {
        "1x1.png": encoded(plain((7, 8, 9), size=(1, 1)), "PNG"),
        "long.png": encoded(plain((7, 8, 9), size=(20_000, 1)), "PNG"),
        "tall.jpg": encoded(plain((9, 9, 9), size=(1, 20_000)), "JPEG", quality=100),
    }
    dataset = folder(tmp_path, files)
    seen = dict(zip(dataset.splits["test"].sources, pixels(dataset, "test"), strict=True))
    assert seen["test/a/1x1.png"].tolist() == all_of([7, 8, 9])
    assert seen["test/a/long.png"].tolist() == all_of([7, 8, 9])
    assert seen["test/a/tall.jpg"].tolist() == all_of([9, 9, 9])


def test_parquet_and_folder_say_the_same(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    names = ["RGBA.png", "animated.gif", "CMYK.jpg", "palette.bmp"]
    table = pa.table({"image": [ODD[name][0] for name in names], "label": list("abab")})
    for part in ("train", "val", "test"):
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    seen = pixels(load_table(str(tmp_path), seed=0), "test")
    assert seen.tolist() == [np.asarray(ODD[name][1]).tolist() for name in names]


def test_values_without_a_scale_are_refused(tmp_path):
    image = Image.fromarray(np.ones((2, 2), np.float32))
    dataset = folder(tmp_path, {"x.tif": encoded(image, "TIFF")})
    assert [each.reason for each in dataset.skipped] == ["32-bit values, of no known scale"]


def test_ordinary_files_stay_as_they_are(tmp_path, monkeypatch):
    ordinary = ("16 bit.png", "grey.jpg", "CMYK.jpg", "plain.bmp", "palette.png", "plain.webp")
    monkeypatch.setattr(cleaning, "to_png", None)
    dataset = folder(tmp_path, {name: ODD[name][0] for name in ordinary})
    split = dataset.splits["test"]
    assert split.ways is None and split.identities is None
    stored = dict(zip(split.sources, split.examples, strict=True))
    for name in ordinary:
        assert stored[f"test/a/{name}"] == ODD[name][0]


@pytest.mark.parametrize(
    ("name", "way"),
    [("plain.bmp", UPRIGHT), ("RGBA.png", UPRIGHT + ALPHA), ("clear.gif", CONVERT)],
)
def test_only_what_is_converted_has_the_conversion_in_its_fingerprint(
    tmp_path, monkeypatch, name, way
):
    assert way_to_decode(ODD[name][0]) == way
    before = folder(tmp_path, {name: ODD[name][0]})
    monkeypatch.setattr(cleaning, "VERSION", cleaning.VERSION + 1)
    after = load_folder(str(tmp_path), seed=0)
    assert (before.fingerprint == after.fingerprint) == (way == UPRIGHT)
    assert before.splits["train"].fingerprint == after.splits["train"].fingerprint


def test_the_fingerprint_is_of_stored_bytes_not_of_pillow_s(tmp_path, monkeypatch):
    before = folder(tmp_path, {"clear.gif": ODD["clear.gif"][0]})
    monkeypatch.setattr(cleaning, "to_png", lambda images, threads: [b"other"] * len(images))
    assert load_folder(str(tmp_path), seed=0).fingerprint == before.fingerprint


def test_a_damaged_exif_does_not_matter():
    image = encoded(plain((1, 2, 3)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert way_to_decode(image) == UPRIGHT
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0"
    image = encoded(plain((1, 2, 3)), "JPEG", exif=b"Exif\0\0" + exif)
    assert way_to_decode(image) == UPRIGHT  # there is no orientation 9
    image = encoded(plain((1, 2, 3)), "JPEG", exif=b"Exif\0\0" + exif.replace(b"\x09", b"\x06"))
    assert way_to_decode(image) == 6


def test_pillow_is_never_given_a_kind_that_it_would_run_a_program_for():
    (answer,) = to_png([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"], 1)
    assert isinstance(answer, headers.BadImage)


def test_a_large_image_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(headers, "MAX_PIXELS", 3)
    (answer,) = to_png([ODD["RGBA.tif"][0]], 1)
    assert str(answer) == headers.TOO_MANY
    monkeypatch.setattr(tf.io, "decode_image", None)
    with pytest.raises(headers.BadImage, match="more than 178,956,970 pixels"):
        way_to_decode(ODD["CMYK.jpg"][0])

"""Images of every kind are seen as a person sees them; pixel values are worked out by hand."""

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
from tests.helpers.odd_images import ODD, WHITE, all_of, encoded, plain


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
    assert [sample.reason for sample in dataset.skipped] == ["32-bit values of unknown scale"]


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

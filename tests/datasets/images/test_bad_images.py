"""Images that cannot be used: each is named with its reason, or left out and counted."""

import logging
import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from finetune.datasets import memory
from finetune.datasets.bad_samples import BadSample, as_record, named
from finetune.datasets.images import decoding
from finetune.datasets.readers import require_decodable
from finetune.datasets.sources.folder import load_folder
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError


def png(value=0, size=(3, 2)):
    return tf.io.encode_png(np.full((*size, 3), value, np.uint8)).numpy()


def noise(encode, **more):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype="uint8")
    return encode(pixels, **more).numpy()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width, height):
    """A PNG of a few bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def frame(width, height):
    return b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(12)


def fill(root, number=3):
    """Three good images of two classes in each split, all different."""
    for first, part in enumerate(("train", "val", "test")):
        for second, name in enumerate("ab"):
            (root / part / name).mkdir(parents=True)
            for row in range(number):
                value = 100 * first + 50 * second + row
                (root / part / name / f"{row}.png").write_bytes(png(value))
    return root


SEEN_AT_LOAD = {
    "text renamed": (b"hello, I am a text\n", "not an image of a known format"),
    "zero bytes": (b"", "empty"),
    "header cut short": (png()[:20], "cut short in its header"),
    "JPEG without a picture": (b"\xff\xd8\xff\xe0\0\x04ab", "cut short in its header"),
    "WebP cut short": (b"RIFF\0\0\0\0WEBPVP8X", "cut short in its header"),
    "PNG bomb": (bomb(100_000, 100_000), "more than 178,956,970 pixels"),
    "GIF bomb": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(9), "more than 178,956,970"),
    "BMP bomb": (
        b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 60000, -60000, 1, 24, 0), "more than 178,956",
    ),
    "JPEG bomb": (frame(65500, 65500), "more than 178,956,970 pixels"),
    "TIFF of nothing": (b"II*\0\x08\0\0\0\0\0", "cut short or damaged"),
    "GIF of nothing": (b"GIF89a\1\0\1\0\0\0\0;", "cut short or damaged"),
}  # fmt: skip
SEEN_WHEN_DECODED = {
    "PNG cut short": noise(tf.io.encode_png)[:1000],
    "JPEG cut short": noise(tf.io.encode_jpeg)[:500],
    "PNG with a wrong check sum": bytearray(noise(tf.io.encode_png)),
}
SEEN_WHEN_DECODED["PNG with a wrong check sum"][100] ^= 255


@pytest.mark.parametrize("kind", SEEN_AT_LOAD)
@pytest.mark.parametrize("skip", [False, True])
def test_what_the_header_tells_is_found_at_load(tmp_path, kind, skip):
    data, reason = SEEN_AT_LOAD[kind]
    (fill(tmp_path) / "train" / "a" / "x.png").write_bytes(data)
    if not skip:
        with pytest.raises(ConfigError, match=rf"1 unusable ones: 1 {reason}.*\(train/a/x.png\)"):
            load_folder(str(tmp_path), seed=0)
        return
    dataset = load_folder(str(tmp_path), seed=0, skip=True)
    (bad,) = dataset.skipped
    assert (bad.split, bad.source) == ("train", "train/a/x.png") and reason in bad.reason
    assert dataset.splits["train"].num_examples == 6


def test_all_are_named_at_once_and_skipped_ones_are_nowhere(tmp_path, caplog):
    clean = load_folder(str(fill(tmp_path / "clean")), seed=0)
    root = fill(tmp_path / "data")
    for row, data in enumerate(SEEN_WHEN_DECODED.values()):
        (root / "train" / "b" / f"d{row}.png").write_bytes(data)
    (root / "val" / "a" / "e.PNG").touch()
    (root / "test" / "b" / "t.jpg").write_text("text")
    with pytest.raises(
        ConfigError, match=r"5 unusable ones: 1 empty \(val/a/e.PNG\); 1 not an image.*3 cut short"
    ):
        load_folder(str(root), seed=0)
    dataset = load_folder(str(root), seed=0, skip=True)
    assert dataset.fingerprint == clean.fingerprint
    for part, split in dataset.splits.items():
        assert split.num_examples == len(split.examples) == len(split.sources) == 6
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert split.sources.tolist() == clean.splits[part].sources.tolist()
    assert [sample.split for sample in dataset.skipped] == ["train"] * 3 + ["validation", "test"]
    assert "left out 5 bad samples: 3 cut short or damaged (train/b/d0.png, " in caplog.text


def test_damage_within_is_named_once_decoding_has_failed(tmp_path):
    root = fill(tmp_path)
    for row, data in enumerate(SEEN_WHEN_DECODED.values()):
        (root / "val" / "b" / f"d{row}.png").write_bytes(data)
    dataset = load_folder(str(root), seed=0)  # no pass over the images is spent on it
    assert dataset.splits["validation"].num_examples == 9
    with pytest.raises(ConfigError, match=r"3 cut short or damaged \(val/b/d0.png, val/b/d1.png, "):
        require_decodable(dataset.splits.values())
    numbers = replace(dataset.splits["train"], examples={"x": np.zeros((9, 2))})
    require_decodable([dataset.splits["train"], numbers])


def test_error_decodes_nothing_at_load(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.tf.io, "decode_image", None)
    assert load_folder(str(fill(tmp_path)), seed=0).splits["train"].num_examples == 6


def test_links_pipes_and_files_that_are_gone(tmp_path):
    root = fill(tmp_path / "data")
    folder = root / "train" / "a"
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "up").symlink_to(root / "train")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    (root / "train" / "c").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.png")
    elsewhere = tmp_path / "more"
    elsewhere.mkdir()
    (elsewhere / "9.png").write_bytes(png(9))
    (folder / "linked").symlink_to(elsewhere)
    (folder / "8.png").symlink_to(elsewhere / "9.png")
    expected = {
        "train/a/gone.png": "no such file, or a broken link",
        "train/a/self.png": "a link that points back to itself",
        "train/a/up": "a link to one of its parent folders",
        "train/a/gone": "a broken link",
        "train/a/round": "a broken link",
        "train/c": "a broken link",
        "train/a/pipe.png": "not a regular file",
    }
    dataset = load_folder(str(root), seed=0, skip=True)
    assert {sample.source: sample.reason for sample in dataset.skipped} == expected
    # A good link to a file or a folder is followed.
    assert dataset.splits["train"].sources.tolist()[3:5] == [
        "train/a/8.png",
        "train/a/linked/9.png",
    ]
    with pytest.raises(ConfigError) as caught:
        load_folder(str(root), seed=0)
    (text,) = caught.value.problems
    assert "7 unusable ones" in text and all(source in text for source in expected)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_what_may_not_be_read(tmp_path):
    root = fill(tmp_path)
    (root / "train" / "a" / "0.png").chmod(0)
    (root / "val" / "b").chmod(0)
    try:
        with pytest.raises(ConfigError, match=r"2 permission denied \(val/b, train/a/0.png\)"):
            load_folder(str(root), seed=0)
    finally:
        (root / "val" / "b").chmod(0o755)


def test_an_unreadable_file_is_a_bad_sample_whoever_reads(tmp_path, monkeypatch):
    root = fill(tmp_path)
    read = type(root).read_bytes

    def refuse(path):
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(type(root), "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"6 unusable ones: 6 permission denied \(train/a/0.png"):
        load_folder(str(root), seed=0)


def test_nothing_left_of_a_class_or_a_split_is_refused(tmp_path):
    for row in range(3):
        (fill(tmp_path / str(row)) / "train" / "a" / "x.png").touch()
    for path in (tmp_path / "0" / "train" / "a").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"of each class. Received: none of a. Fix.*4 empty"):
        load_folder(str(tmp_path / "0"), seed=0, skip=True)
    for path in (tmp_path / "1" / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(
        ConfigError,
        match=r"7 unusable ones: all 6 of test: empty; the first is test/a/0.png; 1 empty \(train",
    ):
        load_folder(str(tmp_path / "1"), seed=0)
    with pytest.raises(ConfigError, match="Received: test, where all 6 are bad"):
        load_folder(str(tmp_path / "1"), seed=0, skip=True)
    assert len(load_folder(str(tmp_path / "2"), seed=0, skip=True).skipped) == 1


def test_held_out_samples_do_not_depend_on_damage(tmp_path):
    for second, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for row in range(20):
            (tmp_path / name / f"{row:02}.png").write_bytes(png(50 * second + row))
    before = load_folder(str(tmp_path), seed=0)
    victims = [before.splits[part].sources[1] for part in ("train", "test")]
    for name in victims:
        (tmp_path / name).write_bytes(b"no")
    after = load_folder(str(tmp_path), seed=0, skip=True)
    assert sorted(sample.source for sample in after.skipped) == sorted(victims)
    for part, split in before.splits.items():
        left = [source for source in split.sources if source not in victims]
        assert after.splits[part].sources.tolist() == left


def test_images_of_a_table_go_the_same_way(tmp_path):
    fill(tmp_path)
    (tmp_path / "x.png").write_bytes(SEEN_WHEN_DECODED["JPEG cut short"])
    rows = ["train/a/0.png,a", "train/b/0.png,b", "x.png,a", "gone.png,b", ",a", "train/a/1.png,"]
    for part in ("train", "validation", "test"):
        (tmp_path / f"{part}.csv").write_text("\n".join(["image,label", *rows]))
    with pytest.raises(ConfigError, match=r"12 unusable ones: 3 without an image \(train.csv:6, "):
        load_table(str(tmp_path), seed=0)
    dataset = load_table(str(tmp_path), seed=0, skip=True)
    assert {sample.source: sample.reason for sample in dataset.skipped if sample.split == "test"} == {
        "test.csv:4": "cut short or damaged", "test.csv:6": "without an image",
        "test.csv:5": "no such file, or a broken link", "test.csv:7": "without a label",
    }  # fmt: skip
    assert dataset.splits["test"].sources.tolist() == ["test.csv:2", "test.csv:3"]


def test_ignored_files_and_repeated_samples_are_counted(tmp_path, caplog):
    root = fill(tmp_path)
    (root / "train" / "a" / "notes.txt").touch()
    (root / "train" / "a" / "Thumbs.db").touch()
    (root / "val" / "loose.png").write_bytes(png(1))
    (root / "test" / "b" / "README").touch()
    (root / "test" / "b" / ".hidden").touch()
    for name in ("a/again.png", "b/other class.png"):
        (root / "test" / name).write_bytes(png(0))  # train/a/0.png
    (root / "val" / "a" / "9.png").write_bytes(png(201))  # test/a/1.png
    with caplog.at_level(logging.WARNING):
        dataset = load_folder(str(root), seed=0)
    assert dataset.ignored == {
        ".txt": 1, "Thumbs.db": 1, "images outside the class folders": 1, "without suffix": 1,
        "dot files": 1,
    }  # fmt: skip
    assert dataset.repeated == {"train and test": 2, "validation and test": 1}
    assert (
        "ignored, because they are not examples: 1 .txt, 1 Thumbs.db, 1 dot files, 1 images outside"
        in caplog.text
    )
    assert "2 samples occur in both train and test" in caplog.text


def test_twenty_are_named_and_a_thousand_recorded():
    bad = [BadSample("train", f"{n}.png", "empty" if n < 15 else "cut") for n in range(1500)]
    text = named(bad)
    assert text.startswith("15 empty (0.png, ") and text.count(".png") == 20
    assert "; 1485 cut (15.png, 16.png, 17.png, 18.png, 19.png, …)" in text
    record = as_record(bad)
    assert record["counts"] == {"train": 1500} and len(record["samples"]) == 1000
    assert record["samples"][0] == {"split": "train", "source": "0.png", "reason": "empty"}
    assert as_record([]) == {}


def test_converted_images_count_in_memory(tmp_path, monkeypatch):
    from PIL import Image

    root = fill(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype="uint8")
    for row in range(3):  # 30 kB each as PNG
        name = root / "train" / "a" / f"x{row}.tif"
        Image.fromarray(pixels).save(name, compression="jpeg", quality=5)
    stored = sum(path.stat().st_size for path in root.rglob("*.*"))
    free = type("Memory", (), {"available": 4 * stored})
    assert stored < 45_000
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match="dataset.max_samples must keep.*of train"):
        load_folder(str(root), seed=0)

"""Any bytes are a dataset or an error that names what is wrong, never another exception."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from finetune.datasets.images import headers
from finetune.datasets.readers import require_decodable
from finetune.datasets.sources.folder import load_folder
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("error")
FEW = settings(
    derandomize=True, max_examples=400, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def samples():
    """Small good files of every kind, to be damaged."""
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    for kind, mode in (
        ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "RGB"),
        ("BMP", "RGB"), ("BMP", "P"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
    ):  # fmt: skip
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        more = {} if kind in ("GIF", "BMP") else {"exif": exif}
        Image.fromarray(pixels).convert(mode).save(file, kind, **more)
        yield file.getvalue()


SAMPLES = tuple(samples())
MAGIC = tuple(sample[:12] for sample in SAMPLES)


@st.composite
def images(draw):
    """Any bytes, bytes after a known beginning, or a good file that is cut and has wrong bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from((b"", *MAGIC))) + draw(st.binary(max_size=80))
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


def loaded(load, *arguments, **more):
    """Returns the dataset, or None where what is wrong was named."""
    try:
        return load(*arguments, seed=0, **more)
    except ConfigError as error:
        assert error.problems and all(problem.endswith((".", "?")) for problem in error.problems)
        return None


@settings(FEW, max_examples=12)
@given(st.lists(images(), min_size=1, max_size=40))
def test_a_folder_of_any_bytes(tmp_path_factory, monkeypatch, files):
    monkeypatch.setattr(headers, "MAX_PIXELS", 10**6)  # a wrong byte may ask for half a GiB
    root = tmp_path_factory.mktemp("any")
    for part in ("train", "val", "test"):
        for value, name in enumerate("ab"):
            (root / part / name).mkdir(parents=True)
            good = tf.io.encode_png(np.full((2, 2, 3), value, np.uint8)).numpy()
            (root / part / name / "good.png").write_bytes(good)
    for row, data in enumerate(files):
        (root / "train" / "a" / f"{row}.png").write_bytes(data)
    dataset = loaded(load_folder, str(root), skip=True)
    assert dataset is not None  # the good ones are left in any case
    assert dataset.splits["train"].num_examples + len(dataset.skipped) == 2 + len(files)
    require_decodable([dataset.splits["train"]])
    strict = loaded(load_folder, str(root))
    if strict is None or strict.fingerprint != dataset.fingerprint:
        assert dataset.skipped
    else:
        assert not dataset.skipped
    shutil.rmtree(root)


PIECES = (
    "text", "label", "image", ",", ",", "\t", ";", "\n", "\n", "\r", '"', '""', "\0", "\ufeff", "a",
    "b", "ü", "{", "}", "[", "]", ":", '{"text": "a", "label": "b"}\n', "null", "1e999", "\\ud800",
    "a.png", "../x", "\ud800", "{}", "true",
)  # fmt: skip
HEADS = ("", "text,label\n", "image,label\n", "text\tlabel\n", '{"text": "x", "label": 1}\n')


@st.composite
def tables(draw):
    text = draw(st.sampled_from(HEADS)) + "".join(draw(st.lists(st.sampled_from(PIECES))))
    codec = draw(st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1"]))
    data = text.encode(codec, "surrogatepass" if codec.startswith("utf") else "replace")
    return data + draw(st.just(b"") | st.binary(max_size=8))


@FEW
@given(tables() | st.binary(max_size=60), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
       st.sampled_from([None, ";"]), st.booleans())  # fmt: skip
def test_a_table_of_any_bytes(tmp_path, data, suffix, separator, skip):
    for old in tmp_path.iterdir():
        old.unlink()
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.{suffix}").write_bytes(data)
    dataset = loaded(load_table, str(tmp_path), label_separator=separator, skip=skip)
    if dataset is not None:
        assert skip or dataset.skipped == ()
        for split in dataset.splits.values():
            assert split.num_examples == len(split.examples) == len(split.sources) > 0
            assert all(isinstance(example, bytes) or example.strip() for example in split.examples)

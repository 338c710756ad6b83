"""Tables with rows and files that cannot be used: named by line, or left out and counted."""

import json
import logging

import pytest

from finetune.datasets.bad_samples import BadSample
from finetune.datasets.sources import table_files
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError

GOOD = "text,label\none,a\ntwo,b\nthree,a\nfour,b\n"


def three(root, train, suffix="csv", other=None):
    """The content for train; an ordinary validation and test table."""
    for part in ("train", "val", "test"):
        content = train if part == "train" else (other or GOOD.replace("o", part[0]))
        data = content if isinstance(content, bytes) else content.encode()
        name = suffix if part == "train" or other else "csv"
        (root / f"{part}.{name}").write_bytes(data)
    return str(root)


def load(path, **more):
    return load_table(path, **{"seed": 0, **more})


def lines(dataset):
    return {sample.source: sample.reason for sample in dataset.skipped}


BAD_ROWS = (
    'text,label\n'        # line 1
    'one,a\n'
    '"over\ntwo lines",b\n'  # 3 and 4
    ' ,a\n'               # 5
    '\n'                  # 6: no row
    'five,\n'             # 7
    'six,b,c\n'           # 8
    'seven\n'             # 9
    'n\0ul,a\n'           # 10
    'last,b\n'            # 11
)  # fmt: skip
REASONS = {
    "train.csv:5": "without a text", "train.csv:7": "without a label",
    "train.csv:8": "with 3 values for 2 columns", "train.csv:9": "with 1 values for 2 columns",
    "train.csv:10": "with a NUL character",
}  # fmt: skip


def test_bad_rows_are_named_by_the_line_they_begin_in(tmp_path, caplog):
    path = three(tmp_path, BAD_ROWS)
    with pytest.raises(ConfigError) as caught:
        load(path)
    (text,) = caught.value.problems
    assert "Received: 5 unusable ones: " in text
    for source, reason in REASONS.items():
        assert f"1 {reason} ({source})" in text
    dataset = load(path, skip=True)
    assert lines(dataset) == REASONS
    assert dataset.splits["train"].examples.tolist() == ["one", "over\ntwo lines", "last"]
    assert dataset.splits["train"].sources.tolist() == [
        "train.csv:2",
        "train.csv:3",
        "train.csv:11",
    ]
    assert dataset.splits["train"].labels.tolist() == [0, 1, 1]
    assert "left out 5 bad samples" in caplog.text


def test_skipping_leaves_what_the_good_rows_alone_would_be(tmp_path):
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
    bad = load(three(tmp_path / "bad", GOOD + " ,a\nx,\n"), skip=True)
    good = load(three(tmp_path / "good", GOOD))
    assert bad.fingerprint == good.fingerprint and good.skipped == ()
    assert bad.splits["train"].num_examples == 4


def test_lines_of_json_are_named_as_lines(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "", "label": 1}, {"text": "b", "label": 2}]
    content = "\n\n".join(map(json.dumps, rows)) + '\n{"text": "cut\n[1]\n{"text": "c"}\n'
    path = three(tmp_path, content, "jsonl", '{"text": "v", "label": 1}\n{"text": "w", "label": 2}')
    expected = {
        "train.jsonl:3": "without a text", "train.jsonl:6": "not JSON",
        "train.jsonl:7": "a list, not an object", "train.jsonl:8": "without a label",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(f"1 {why} ({where})" in str(caught.value) for where, why in expected.items())
    assert "header" not in str(caught.value)
    dataset = load(path, skip=True)
    assert lines(dataset) == expected and dataset.splits["train"].examples.tolist() == ["a", "b"]


def test_a_label_that_train_does_not_have_is_an_error_in_any_case(tmp_path):
    (tmp_path / "val.csv").write_text(GOOD.replace("a\n", "c\n"))
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(GOOD)
    for skip in (False, True):
        with pytest.raises(ConfigError, match=r"val.csv \(lines 2, 4 .*class of train.*: c"):
            load(str(tmp_path), skip=skip)


def test_bad_rows_and_what_follows_from_them_are_named_together(tmp_path):
    path = three(tmp_path, "text,label\none,a\n,b\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "1 without a text (train.csv:3)" in caught.value.problems[0]
    assert "at least 2 classes" in caught.value.problems[1]
    with pytest.raises(ConfigError, match="at least 2 classes"):
        load(path, skip=True)
    path = three(tmp_path, "text,label\n,a\n,b\n")
    for skip in (False, True):
        with pytest.raises(ConfigError, match=r"train, where all 2 are bad.*train.csv:2"):
            load(path, skip=skip)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.replace("label", "lable", 1), "columns.label must be a column of train.csv"),
        (
            GOOD.replace(",", "|"),
            r"first line contains \| but no comma. Save it with commas or semic",
        ),
        (GOOD.replace(",", "\t"), "first line contains a tab but no comma"),
        ('text,label\nx,a\ny,"b\n', "line 3 has unexpected end of data"),
        (GOOD.encode("utf-16-le"), "train.csv, whose first line contains NUL.*iconv"),
        (GOOD.replace("two", "zwölf").encode("latin-1"), r"byte 19 \(line 3\) is not UTF-8.*iconv"),
        (GOOD.encode("utf-16")[:-1], r"byte 76 \(line 5\) is not UTF-16"),
        (b"\0" * 50, "first line contains NUL"),
    ],
)
def test_a_file_that_is_no_table_is_an_error_in_any_case(tmp_path, content, message, skip):
    with pytest.raises(ConfigError, match=message):
        load(three(tmp_path, content), skip=skip)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding, suffix):
    texts = ["zwölf", "十二", "\U0001f600"]
    content = "text,label\n" + "".join(f"{text},{text}\n" for text in texts)
    if suffix == "jsonl":
        rows = ({"text": text, "label": text} for text in texts)
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = three(tmp_path, content.encode(encoding), suffix, content)
    dataset = load(path)
    assert dataset.splits["train"].examples.tolist() == texts


def test_big_endian_marks_too(tmp_path):
    for number, (mark, codec) in enumerate([("utf-16-be", "\ufeff"), ("utf-32-be", "\ufeff")]):
        (tmp_path / str(number)).mkdir()
        path = three(tmp_path / str(number), (codec + GOOD).encode(mark))
        assert load(path).splits["train"].examples.tolist() == ["one", "two", "three", "four"]


def test_a_line_of_a_megabyte_and_quoted_newlines(tmp_path):
    long = "wörd " * 200_000
    dataset = load(three(tmp_path, GOOD + f'"{long}",a\n"a\r\nb\n""c""",b\n'))
    assert dataset.splits["train"].examples[4:].tolist() == [long, 'a\r\nb\n"c"']
    assert dataset.splits["train"].sources[5] == "train.csv:7"


def test_semicolons_are_a_separator_in_tsv_neither(tmp_path):
    with pytest.raises(ConfigError, match="first line contains a comma but no tab"):
        load(three(tmp_path, GOOD, "tsv", GOOD.replace(",", "\t")))


def test_repeated_texts_are_counted(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = load(three(tmp_path, GOOD, other=GOOD))
    assert dataset.repeated == {
        "train and validation": 4, "train and test": 4, "validation and test": 4,
    }  # fmt: skip
    assert "4 samples occur in both train and validation" in caplog.text


def test_a_bad_sample_says_what_it_is():
    assert BadSample("train", "a.csv:1", "x") == BadSample("train", "a.csv:1", "x")
    assert set(table_files.TABLE_SUFFIXES) == {".csv", ".tsv", ".jsonl", ".parquet"}

"""Tables: formats, both layouts, one and several labels, texts and images, what is refused."""

import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import parquet

from finetune.datasets import memory
from finetune.datasets.dataset import split_line
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError

LABELS = ["b", "a", "b", "a"]
TEXTS = ["one", 'two, "2"', "three\nlines\n\nhere", "vier für ü"]


def delimited(sign):
    def write(path, columns):
        def quoted(value):
            return '"' + str(value).replace('"', '""') + '"'

        rows = [columns, *zip(*columns.values(), strict=True)]
        text = "\r\n".join(sign.join(map(quoted, row)) for row in rows) + "\r\n"
        path.write_bytes(text.encode())

    return write


def jsonl(path, columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def arrow(path, columns):
    parquet.write_table(pa.table(columns), path)


WRITERS = {
    "csv": delimited(","), "tsv": delimited("\t"), "jsonl": jsonl, "parquet": arrow,
}  # fmt: skip


def write(root, suffix="csv", **parts):
    root.mkdir(exist_ok=True)
    for part, columns in parts.items():
        WRITERS[suffix](root / f"{part}.{suffix}", columns)
    return str(root)


def three(root, columns, suffix="csv"):
    return write(root, suffix, train=columns, val=columns, test=columns)


def images(root, names):
    for row, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(row))


def png(value):
    return tf.io.encode_png(np.full((1, 1, 3), value, np.uint8)).numpy()


def line_of(dataset):
    return split_line(dataset.used, dataset.unused)


def load(path, **more):
    return load_table(str(path), **{"seed": 0, **more})


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_says_the_same(tmp_path, suffix):
    columns = {"text": TEXTS, "label": LABELS, "other": [1, 2, 3, 4]}
    dataset = load(three(tmp_path, columns, suffix))
    assert dataset.kind == "text" and not dataset.multi_label
    assert dataset.classes == ("a", "b")
    assert dataset.splits["validation"].examples.tolist() == TEXTS
    assert dataset.splits["test"].labels.tolist() == [1, 0, 1, 0]
    assert dataset.splits["test"].labels.dtype == np.int64
    for other in WRITERS:  # the same content, at another place
        same = load(three(tmp_path / other, columns, other))
        assert same.fingerprint == dataset.fingerprint


def test_a_byte_order_mark_and_empty_lines_are_not_data(tmp_path):
    path = tmp_path / "all.CSV"
    rows = "".join(f"{text},{label}\n\n" for text, label in zip("wxyz" * 5, "ab" * 10, strict=True))
    path.write_bytes(b"\xef\xbb\xbftext,label\n\n" + rows.encode())
    dataset = load(path)
    assert {name: s.num_examples for name, s in dataset.splits.items()} == {
        "train": 16, "validation": 2, "test": 2,
    }  # fmt: skip


def test_no_type_is_guessed(tmp_path):
    columns = {"text": list("vwxyz"), "label": ["01", "1", "true", "NA", "2020-01-01"]}
    names = ("01", "1", "2020-01-01", "NA", "true")
    for suffix in WRITERS:
        assert load(three(tmp_path / suffix, columns, suffix)).classes == names


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, 10, 9], ("9", "10")),
        ([1.0, 0.5, 1.0, 0.5], ("0.5", "1.0")),
        ([True, False, True, False], ("false", "true")),
        (["10", "9", "10", "9"], ("10", "9")),
    ],
)
def test_numbers_sort_as_numbers_and_texts_as_texts(tmp_path, suffix, labels, classes):
    dataset = load(three(tmp_path, {"text": TEXTS, "label": labels}, suffix))
    assert dataset.classes == classes


def test_mixed_json_labels_keep_their_names(tmp_path):
    labels = [1, True, 1.0, "1"]
    assert load(three(tmp_path, {"text": TEXTS, "label": labels}, "jsonl")).classes == (
        "1", "1.0", "true",
    )  # fmt: skip


def test_one_file_is_split_by_seed_and_log_says_so(tmp_path, caplog):
    columns = {"text": [f"text {n}" for n in range(40)], "label": ["a", "b"] * 20}
    path = write(tmp_path, "jsonl", whole=columns) + "/whole.jsonl"
    with caplog.at_level(logging.INFO):
        one, same, other = (load(path, seed=seed) for seed in (0, 0, 1))
    assert "no split test: took 4 training examples, stratified, seed 0" in caplog.text
    assert {name: s.num_examples for name, s in one.splits.items()} == {
        "train": 32, "validation": 4, "test": 4,
    }  # fmt: skip
    for part in ("validation", "test"):
        assert np.bincount(one.splits[part].labels).tolist() == [2, 2]
    assert one.fingerprint == same.fingerprint != other.fingerprint
    seen = [text for split in one.splits.values() for text in split.examples]
    assert sorted(seen) == sorted(columns["text"])


def test_a_class_of_one_row_stays_in_train(tmp_path):
    columns = {"text": [f"t{n}" for n in range(20)], "label": [*"abcdefgh", *["z"] * 12]}
    dataset = load(write(tmp_path, train=columns))
    assert set(dataset.splits["train"].labels.tolist()) == set(range(9))


def test_images_are_read_relative_to_the_table(tmp_path):
    names = ["a/1.png", "a/2.PNG", "b/1.jpg", "b/2.webp"]
    outside = tmp_path / "out" / "x.bmp"
    images(tmp_path / "data", names)
    images(outside.parent, [outside.name])
    columns = {"image": [*names[:3], str(outside)], "label": LABELS, "picture": names}
    path = three(tmp_path / "data", columns)
    dataset = load(path)
    assert dataset.kind == "image"
    assert dataset.splits["train"].examples[2] == (tmp_path / "data" / "b" / "1.jpg").read_bytes()
    assert dataset.splits["train"].examples[3] == outside.read_bytes()
    chosen = load(path, input_column="picture")
    assert chosen.kind == "image" and chosen.fingerprint != dataset.fingerprint


def test_the_fingerprint_is_of_bytes_not_of_paths(tmp_path):
    names = [f"{row}.png" for row in range(4)]
    images(tmp_path / "one", names)
    path = three(tmp_path / "one", {"image": names, "label": LABELS})
    before = load(path)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert load(tmp_path / "two").fingerprint == before.fingerprint
    (tmp_path / "two" / "3.png").write_bytes(png(77))
    after = load(tmp_path / "two")
    assert after.fingerprint != before.fingerprint
    WRITERS["csv"](tmp_path / "one" / "val.csv", {"image": names, "label": LABELS[::-1]})
    relabelled = load(path)
    assert relabelled.fingerprint != before.fingerprint
    assert relabelled.splits["train"].fingerprint == before.splits["train"].fingerprint


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"bytes": data, "path": None}])
def test_parquet_may_hold_the_images(tmp_path, wrap):
    data = [wrap(png(row)) for row in range(4)]
    dataset = load(three(tmp_path, {"image": data, "label": LABELS}, "parquet"))
    assert dataset.kind == "image"
    assert dataset.splits["train"].examples[1] == png(1)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_several_labels_by_separator(tmp_path, kind):
    values = TEXTS
    if kind == "image":
        values = [f"{row}.png" for row in range(4)]
        images(tmp_path, values)
    columns = {kind: values, "tags": ["b; a", "", "c", "a;a"]}
    dataset = load(three(tmp_path, columns), label_column="tags", label_separator=";")
    assert dataset.multi_label and dataset.kind == kind
    assert dataset.classes == ("a", "b", "c")
    labels = dataset.splits["train"].labels
    assert labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert labels.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_are_several_labels(tmp_path, suffix):
    columns = {"text": TEXTS, "label": [[10, 9], [], [9], [10]]}
    dataset = load(three(tmp_path, columns, suffix))
    assert dataset.classes == ("9", "10")
    assert dataset.splits["test"].labels.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]


def test_several_labels_are_kept_by_number_not_by_class(tmp_path, caplog):
    columns = {"text": [f"t{n}" for n in range(40)], "label": ["a;b", "a"] * 20}
    path = write(tmp_path, train=columns)
    with caplog.at_level(logging.INFO):
        dataset = load(path, label_separator=";", max_samples=3)
    assert "no split validation: took 4 training examples, not stratified" in caplog.text
    assert "train: at most 3 examples, not stratified" in caplog.text
    assert [split.num_examples for split in dataset.splits.values()] == [3, 3, 3]
    with pytest.raises(ConfigError, match=r"dataset.train_per_class must be null.*Received: 2"):
        load(path, label_separator=";", train_per_class=2)


def csv_of(text, name="train.csv"):
    return lambda root: (root / name).write_bytes(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (csv_of(b"text,label\na,x\n\xff,y\n"), r"byte 15 \(line 3\) is not UTF-8"),
        (csv_of(b"\xef\xbb\xbftext,label\n\xff,y\n"), r"byte 14 \(line 2\) is not UTF-8"),
        (
            csv_of("text,label\na,b\n".encode("utf-16-le")),
            "first line contains NUL.*iconv -f UTF-16LE",
        ),
        (csv_of(b""), "which is empty"),
        (csv_of(b"text,label\n"), "where train is empty"),
        (csv_of(b"text,label\na,b,c\n"), r"1 with 3 values for 2 columns \(train.csv:2\)"),
        (csv_of(b'text,label\na,"b\nc,d\n'), "line 3 has unexpected end of data"),
        (csv_of(b'text,label\n"a"b,c\n'), "line 2 has ',' expected after '\"'"),
        (csv_of(b"text,label,label\na,b,c\n"), "more than one column label"),
        (csv_of(b"text,lable\na,b\n"), r"columns.label must be a column of train.csv.*Did you"),
        (
            csv_of(b"words,label\na,b\n"),
            r"columns.input must name.*neither of text and image is a column.*words",
        ),
        (csv_of(b"text,image,label\na,b,c\n"), r"columns.input must name.*both of text and image"),
        (csv_of(b"text,label\n ,a\nb,a\n,b\n"), r"2 without a text \(train.csv:2, train.csv:4\)"),
        (csv_of(b"text,label\na,\nb,a\nc, \n"), r"2 without a label \(train.csv:2, train.csv:4\)"),
        (csv_of(b"text,label\na,x\nb,x\n"), r"at least 2 classes.*1 class\)"),
        (csv_of(b"text,label\na,a\nb,c\n", "val.csv"), r"val.csv \(lines 3 .*Received: c. Valid"),
        (csv_of(b"text,label\na,a\n", "train.tsv"), "train.csv and train.tsv for train"),
        (csv_of(b"text,label\na,a\n", "validation.csv"), "val.csv and validation.csv for valid"),
        (csv_of(b"x", "test.xlsx"), "with test.xlsx"),
        (lambda root: (root / "train.csv").unlink(), "without a table train"),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path, spoil, message):
    path = three(tmp_path, {"text": TEXTS, "label": LABELS})
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'[{"text": "a"}]\n', "line 1 is a list"),
        ("a.jsonl", b'\n{"text": \n', "line 2 is not JSON"),
        (
            "a.jsonl",
            b'{"text": "a", "label": null}\n{"text": "b"}\n',
            "all 2 of train: without a label; the first is a.jsonl:1",
        ),
        (
            "a.jsonl",
            b'{"text": "\\ud800", "label": 1}\n{"text": 3, "label": 2}',
            "half a.*jsonl:1.*a text.*:2",
        ),
        (
            "a.jsonl",
            b'{"text": "a", "label": {}}\n{"text": "b", "label": NaN}',
            "all 2 of train: with a label that is not text, a number.*; the first is a.jsonl:1",
        ),
        ("a.jsonl", b'{"text": "a", "label": ["x", null]}\n', r"1 without a label \(a.jsonl:1\)"),
        ("a.parquet", b"text,label\n", "a.parquet, which is not Parquet"),
        ("a.txt", b"text,label\n", "Received: .*a.txt"),
    ],
)
def test_a_file_of_the_wrong_kind(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / name)


def test_wrong_images_are_named_once_for_all_rows(tmp_path):
    names = [*(f"{row}.png" for row in range(6)), "", "x.tif"]
    path = three(tmp_path / "data", {"image": names, "label": ["a", "b"] * 4})
    with pytest.raises(ConfigError) as caught:
        load(path)
    (text,) = caught.value.problems
    assert (
        "Received: 24 unusable ones: 3 without an image (train.csv:8, val.csv:8, test.csv:8)"
        in text
    )
    assert "21 no such file, or a broken link (train.csv:2, train.csv:3, " in text
    assert text.count(".csv:") == 20 and ", …)" in text


def test_paths_out_of_the_table_s_directory_are_refused_in_any_case(tmp_path):
    names = ["0.png", "../up.png", "a/../../up.png"]
    images(tmp_path / "data", names[:1])
    images(tmp_path, ["up.png"])
    path = three(tmp_path / "data", {"image": names, "label": ["a", "b", "a"]})
    for skip in (False, True):
        with pytest.raises(ConfigError, match=r"below the table's own.*lines 3, 4 \(2 in all\)"):
            load(path, skip=skip)


def test_unknown_paths_columns_and_memory(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="nowhere, which does not exist"):
        load(tmp_path / "nowhere")
    path = three(tmp_path, {"text": TEXTS, "label": LABELS})
    with pytest.raises(
        ConfigError, match="columns.input and dataset.columns.label must be different columns"
    ):
        load(path, input_column="label")
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    free = type("Memory", (), {"available": 2 * size - 1})
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match="fit into half of the free memory"):
        load(path)
    free.available = 2 * size
    assert load(path).classes == ("a", "b")


def test_images_beyond_memory_say_how_many_fit(tmp_path, monkeypatch):
    names = [f"{row}.png" for row in range(4)]
    for name in names:
        (tmp_path / name).write_bytes(bytes(1000))
    path = three(tmp_path, {"image": names, "label": LABELS})
    free = type("Memory", (), {"available": 5000})
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match="max_samples.*by example 3 of train"):
        load(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '"";"text";"label"\n"1";"one, 1";"a"\n"2";"two";"b"\n'),  # R's write.csv2
        ("a.csv", "text;label;;\none, 1;a;;\ntwo;b;;\n"),  # Excel, where commas are decimal
        ("a.csv", "sep=;\r\ntext;label\r\none, 1;a\r\ntwo;b\r\n"),
        ("a.csv", '\ufeff"sep=;"\ntext;label\none, 1;a\ntwo;b\n'),
        ("a.csv", 'sep=|\ntext|label\n"one, 1"|a\ntwo|b\n'),
        ("a.csv", 'sep=,\ntext, label\n"one, 1",a\ntwo,b\n'),
        ("a.tsv", "sep=\t\ntext\tlabel\none, 1\ta\ntwo\tb\n"),
    ],
)
def test_tables_as_r_and_excel_write_them(tmp_path, name, text):
    for part in ("train", "val", "test"):
        (tmp_path / name.replace("a", part)).write_bytes(text.encode())
    dataset = load(tmp_path)
    assert dataset.splits["train"].examples.tolist() == ["one, 1", "two"]
    assert dataset.classes == ("a", "b")
    first = 3 if "sep=" in text else 2
    assert dataset.splits["test"].sources[0] == f"{name.replace('a', 'test')}:{first}"


def test_usual_names_are_splits_and_other_tables_are_named(tmp_path, caplog):
    columns = {"text": TEXTS, "label": LABELS}
    write(tmp_path, "tsv", Train=columns)
    write(tmp_path, "csv", dev=columns, extra=columns)
    write(tmp_path, "parquet", **{"Test-00000-of-00001": columns})
    for name in ("._train.csv", "Thumbs.db", ".DS_Store", "notes.txt"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO):
        dataset = load(tmp_path)
    line = (
        "splits: train is Train.tsv, validation is dev.csv, test is Test-00000-of-00001.parquet; "
        "not used: extra.csv"
    )
    assert line_of(dataset) == line and line in caplog.messages
    assert dataset.ignored == {"Thumbs.db": 1, "dot files": 2}
    assert [split.num_examples for split in dataset.splits.values()] == [4, 4, 4]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "valid.csv", "dev.csv"], "with dev.csv and valid.csv for validation"),
        (["Train.csv", "train.csv"], "with Train.csv and train.csv for train. Keep one"),
        (
            ["data.csv"],
            "but with data.csv.*usual.*a single table, which is then split: dataset.path=.*data",
        ),
        (["deep/train.csv"], "but with tables in deep. Use dataset.path=.*deep"),
        (["a/b/train.csv", "c/x.txt"], "but with tables in b. Use dataset.path=.*a/b"),
        (
            ["train-00000-of-00002.csv", "train-00001-of-00002.csv"],
            "for train. Join them into one file",
        ),
    ],
)
def test_tables_that_could_be_meant_otherwise(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("text,label\na,x\nb,y\n")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_labels_are_one_in_whatever_form_they_are_stored(tmp_path):
    composed, apart = "caf\xe9", "cafe\u0301"
    columns = {"text": TEXTS, "label": [composed, f"{apart} ", "b", "b\xa0"]}
    other = {"text": TEXTS, "label": [apart, composed, "\u200bb", "b"]}
    dataset = load(write(tmp_path, "jsonl", train=columns, val=other, test=other))
    assert dataset.classes == ("b", composed)
    assert dataset.splits["test"].labels.tolist() == [1, 1, 0, 0]


def test_paths_may_have_backslashes(tmp_path):
    names = ["a/1.png", "a/2.png", "b/1.png", "b\\2.png"]  # the last is the name of one file
    images(tmp_path / "data", names)
    columns = {"image": ["a\\1.png", ".\\a\\2.png", "b/1.png", "b\\2.png"], "label": LABELS}
    dataset = load(three(tmp_path / "data", columns))
    assert dataset.splits["train"].examples.tolist() == [png(row) for row in range(4)]
    columns["image"][0] = "..\\up.png"
    with pytest.raises(ConfigError, match=r"below the table's own.*line.* 2 "):
        load(three(tmp_path / "data", columns))


@pytest.mark.parametrize("several", [False, True])
def test_hugging_face_names_of_classes(tmp_path, several):
    label = {"names": ["zebra", "ant", "bee"], "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    labels: list = [2, 0, 1, 0]
    if several:
        features["label"] = {"feature": label, "_type": "List"}
        labels = [[label] for label in labels]
    schema = pa.table({"text": TEXTS, "label": labels})
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    for part in ("train", "val", "test"):
        parquet.write_table(schema.replace_schema_metadata(told), tmp_path / f"{part}.parquet")
    dataset = load(tmp_path)
    assert dataset.classes == ("zebra", "ant", "bee")  # in the order of the file's own indices
    found = dataset.splits["train"].labels
    assert (found.argmax(1) if several else found).tolist() == [2, 0, 1, 0]
    wrong = pa.table({"text": TEXTS, "label": [[3], [-1], [0], [0]] if several else [3, -1, 0, 0]})
    parquet.write_table(wrong.replace_schema_metadata(told), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"not in 0..2.*; 1 without a label \(train.parquet:2\)"):
        load(tmp_path)


def test_an_image_may_be_a_struct_with_a_path_alone(tmp_path):
    names = [f"i/{row}.png" for row in range(4)]
    images(tmp_path, names)
    columns = {"image": [{"bytes": None, "path": name} for name in names], "label": LABELS}
    columns["image"][3] = {"bytes": png(9), "path": "i/0.png"}
    dataset = load(three(tmp_path, columns, "parquet"))
    assert dataset.splits["train"].examples.tolist() == [png(0), png(1), png(2), png(9)]


def test_one_sentence_where_every_row_fails_for_one_reason(tmp_path):
    columns = {"image": [f"images/{row}.png" for row in range(4)], "label": LABELS}
    with pytest.raises(ConfigError) as caught:
        load(three(tmp_path / "tables", columns))
    (text,) = caught.value.problems
    root = tmp_path / "tables"
    assert (
        "12 unusable ones: all 12 of train and validation and test: no such file, or a broken link; "
        f"the first is train.csv:2, looked for at {root}/images/0.png (relative paths start from "
        f"{root}). " in text
    )
    assert text.count(".csv") == 1
    many = {"image": [f"images/{row}.png" for row in range(10)], "label": ["a", "b"] * 5}
    delimited(",")(tmp_path / "many.csv", many)  # of which one is held out for each other split
    with pytest.raises(ConfigError, match="all 10 of train and validation and test: no such file"):
        load(tmp_path / "many.csv")
    images(root, columns["image"])  # and the test split alone is elsewhere
    delimited(",")(root / "test.csv", columns | {"image": ["x.png"] * 4})
    with pytest.raises(
        ConfigError, match=r"4 unusable ones: all 4 of test: no such.*test.csv:2, l"
    ):
        load(root)


def test_images_without_a_suffix_are_images(tmp_path):
    names = [f"{row}" for row in range(4)]
    images(tmp_path, names)
    dataset = load(three(tmp_path, {"file": names, "label": LABELS}), input_column="file")
    assert dataset.kind == "image" and dataset.splits["train"].examples[3] == png(3)


def test_one_sentence_where_every_path_or_label_is_of_elsewhere(tmp_path):
    columns = {"image": [f"../images/{row}.png" for row in range(4)], "label": LABELS}
    with pytest.raises(ConfigError) as caught:
        load(three(tmp_path / "tables", columns))
    assert len(caught.value.problems) == 3
    assert "paths that leave it in all of its 4 rows. Move the table" in caught.value.problems[0]
    columns = {"text": TEXTS, "label": LABELS}
    other = {"text": TEXTS, "label": [0, 1, 2, 0]}
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "texts", train=columns, val=other, test=columns))
    (text,) = caught.value.problems
    assert "other names in all 4 lines: 0, 1, 2 (3 in all). Valid: a, b (2 in all)" in text


@pytest.mark.parametrize("name", ["eval", "my_val", "holdout"])
def test_tables_of_the_same_columns_are_refused_where_a_split_is_missing(tmp_path, name):
    columns = {"text": [f"text {row}" for row in range(40)], "label": ["a", "b"] * 20}
    path = write(tmp_path, train=columns, test=columns, sample={"id": [1], "label": ["a"]})
    write(tmp_path, "jsonl", **{name: columns})
    with pytest.raises(
        ConfigError,
        match=f"without a table validation, but with {name}.jsonl, which have the same columns.*"
        "usual names: train or training.*move them out of DIR",
    ):
        load_table(path, seed=0)
    write(tmp_path, val=columns)
    dataset = load_table(path, seed=0)
    assert sorted(dataset.unused) == sorted([f"{name}.jsonl", "sample.csv"])


@pytest.mark.parametrize("first", [[0, 1, 0], [1, 0], [0.0, 1.0]])
def test_one_hot_lists_are_refused(tmp_path, first):
    labels = [first, [1, *first[1:]]] * 20
    path = write(tmp_path, "jsonl", train={"text": TEXTS * 10, "label": labels})
    with pytest.raises(
        ConfigError, match=r"column label must hold a label, or a list.*of one length.*names"
    ):
        load_table(path, seed=0)


def test_white_space_around_paths_does_not_count(tmp_path):
    names = [f"{row}.png" for row in range(4)]
    images(tmp_path, names)
    spaced = [f" {name} " for name in names]
    path = three(tmp_path, {"image": spaced, "label": LABELS})
    assert load_table(path, seed=0).splits["train"].num_examples == 4


def test_addresses_on_the_web_are_named(tmp_path):
    where = [f"https://host/{row}.png" for row in range(4)]
    path = three(tmp_path, {"image": where, "label": LABELS})
    with pytest.raises(
        ConfigError, match="all 4 .*: a web address; download the image and give its path"
    ):
        load_table(path, seed=0)


def test_measurements_as_labels_are_counted(tmp_path):
    columns = {"text": [f"t {row}" for row in range(40)], "label": [row / 7 for row in range(40)]}
    path = write(tmp_path, "jsonl", train=columns)
    with pytest.raises(ConfigError, match="40 examples of 40 classes, too few.*check the labels"):
        load_table(path, seed=0)

"""A sealed file is read back as it was written, or refused."""

import json
import os

import pytest

from finetune.storage.sealed import (
    COMPACT,
    DAMAGES,
    SPACED,
    digest_of,
    file_digest,
    read_sealed,
    sealed,
)

VALUES = {"b": [1, 2.5, None], "a": {"name": "Müsli"}}


def test_digests_are_those_of_files_that_earlier_versions_wrote():
    text = '{"a":{"name":"M\\u00fcsli"},"b":[1,2.5,null]}'
    assert digest_of(VALUES) == digest_of(json.loads(text))
    # sha256sum of this text, and of the same one with a space after each comma and colon
    assert digest_of(VALUES, COMPACT).startswith("a040a274a215e758")
    assert digest_of(VALUES, SPACED).startswith("a5df44eb345b34f9")


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
@pytest.mark.parametrize("indent", [None, 1, 2])
def test_what_was_sealed_is_read_back(tmp_path, separators, indent):
    path = tmp_path / "values.json"
    path.write_text(json.dumps(sealed(VALUES, separators), indent=indent), encoding="utf-8")
    assert read_sealed(path, separators) == VALUES
    with pytest.raises(ValueError, match="values that do not match its sha256"):
        read_sealed(path, COMPACT if separators is SPACED else SPACED)


@pytest.mark.parametrize("position", range(3, 100, 7))
def test_every_changed_or_lost_byte_is_damage(tmp_path, position):
    path = tmp_path / "values.json"
    whole = json.dumps(sealed(VALUES)).encode()
    changed = bytes([whole[position] ^ 1])
    for damaged in (whole[:position], whole[:position] + changed + whole[position + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(DAMAGES):
            read_sealed(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_other_content_is_damage(tmp_path, content):
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(DAMAGES):
        read_sealed(path)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_sealed, file_digest):
        with pytest.raises(OSError, match="no regular file"):
            read(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "absent")
    (tmp_path / "empty").touch()
    assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")

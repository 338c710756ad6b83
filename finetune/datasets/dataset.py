"""What a run trains on: images or texts in memory, by split."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.bad_samples import BadSample
from finetune.errors import ConfigError

_SHORT, _PIECE = 16_384, 2_048  # bytes


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one split.

    Args:
        name: train, validation or test.
        examples: (n,) object array of encoded images (bytes) or of texts (str); or numbers,
            (n, height, width, channels) images of 0..255, or whatever a model of the user's takes,
            also a dictionary or tuple of arrays.
        labels: (n,) int64 class indices; (n, classes) uint8, 0 or 1, where an example may have
            several.
        fingerprint: digest of examples and labels; `make_dataset` takes it.
        sources: (n,) object array of str, where each example comes from: a file below the
            dataset's path, or a line or row of one; None where it has no name.
        ways: (n,) int32, how each image is decoded, see `headers.way_to_decode`; None: all are
            upright, and none has a transparency.
        identities: (n,) object array of what the digest is taken of, where that is not the
            examples themselves.
        digests: (n,) uint64, see `row_digests`; `make_dataset` takes them.
    """

    name: str
    examples: Any
    labels: np.ndarray
    fingerprint: str = ""
    sources: np.ndarray | None = None
    ways: np.ndarray | None = None
    identities: np.ndarray | None = None
    digests: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        """The examples in this split."""
        return len(self.labels)

    def source(self, row: int) -> str:
        """Returns where an example comes from, for people."""
        return f"{self.name} row {row + 1}" if self.sources is None else self.sources[row]

    def take(self, rows: np.ndarray) -> "Split":
        """Returns the chosen rows, without a digest."""
        kept = {
            key: None if (held := getattr(self, key)) is None else held[rows]
            for key in ("examples", "labels", "sources", "ways", "identities", "digests")
        }
        return Split(self.name, **kept)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All splits; `fingerprint` changes with any example, label or row.

    Args:
        name: of the dataset.
        fingerprint: hexadecimal sha256.
        classes: label names in the order of the indices.
        splits: train, validation and test.
        kind: of the examples: ``image``, ``text`` or ``array``.
        skipped: bad samples that are in no split.
        repeated: how many samples are in two splits, by the names of both.
        ignored: how many files were no examples by their kind, and how much is no data.
        used: the folder, file or array that each split is, or is a share of; none: not of files.
        unused: names of folders and files beside them that are in no split.
        notes: how the data were read, where a user may have meant something else; one line each.
    """

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    kind: str = "image"
    skipped: tuple[BadSample, ...] = ()
    repeated: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels, or none."""
        return self.splits["train"].labels.ndim == 2


@dataclass(frozen=True)
class Found:
    """What a source was found to hold, beside its rows.

    Args:
        used: the folder, file or array of each split that the source has, by its name.
        unused: names of folders and files beside them that are in no split.
        ignored: how many files were no examples by their kind, and how much is no data.
        root: where relative paths begin; None: there are none.
        notes: how the data were read, where a user may have meant something else; one line each.
    """

    used: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    root: Path | None = None
    notes: tuple[str, ...] = ()


def split_line(used: Mapping[str, str], unused: Sequence[str]) -> str:
    """Returns which folder, file or array is which split, in one line; see `Dataset`."""
    line = ", ".join(f"{split} is {where}" for split, where in used.items())
    return f"splits: {line}" + (f"; not used: {', '.join(unused)}" if unused else "")


def make_dataset(
    name: str,
    header: Sequence[Any],
    classes: Sequence[str],
    splits: Mapping[str, Split],
    kind: str = "image",
) -> Dataset:
    """Joins splits to a dataset and takes the digest of each and of all.

    Args:
        name: of the dataset; no part of its identity, the same files may be in another folder.
        header: JSON values that belong to its identity: name, version, config.
        classes: label names in the order of the indices; at least 2.
        splits: train, validation and test.
        kind: of the examples: ``image``, ``text`` or ``array``.
    """
    whole = hashlib.sha256(json.dumps([*header, list(classes)]).encode())
    done: dict[str, Split] = {}
    for part, split in splits.items():
        own = hashlib.sha256()
        for data in _as_bytes(split.examples if split.identities is None else split.identities):
            own.update(len(data).to_bytes(8, "little"))
            own.update(data)
        own.update(split.labels.astype("<i8").tobytes())
        done[part] = replace(split, fingerprint=own.hexdigest(), digests=row_digests(split))
        whole.update(part.encode() + own.digest())
    return Dataset(name, whole.hexdigest(), tuple(classes), done, kind)


def row_digests(split: Split) -> np.ndarray:
    """Returns a number for the content of each example, whatever its label and name, (n,) uint64.

    Equal examples have equal numbers; two others share one by a chance of about 2**-64.
    """
    held = split.examples if split.identities is None else split.identities
    parts = list(held.values()) if isinstance(held, Mapping) else held
    arrays = [np.asarray(part) for part in (parts if isinstance(parts, list | tuple) else [parts])]
    done = np.empty(split.num_examples, np.uint64)
    for row in range(split.num_examples):
        done[row] = _digest(b"".join(_content(array[row]) for array in arrays))
    return done


def _content(example: Any) -> bytes:
    if isinstance(example, str):
        return example.encode("utf-8", "surrogatepass")
    if isinstance(example, bytes):
        return example
    if example.dtype.kind in "OUS":
        return b"\0".join(_content(value) for value in example.ravel().tolist())
    return example.tobytes()


def _digest(data: bytes) -> int:
    """Returns a digest of short data; of long ones a check sum, and a digest of some pieces.

    A check sum is five times as fast as a digest.
    """
    if len(data) <= _SHORT:
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    middle = len(data) // 2
    pieces = data[:_PIECE] + data[middle : middle + _PIECE] + data[-_PIECE:]
    some = hashlib.blake2b(pieces, digest_size=4, salt=len(data).to_bytes(8, "little")).digest()
    return int.from_bytes(some, "little") << 32 | zlib.crc32(data)


def _as_bytes(examples: Any) -> Iterator[Any]:
    """Yields what identifies each example; of numbers, their type and shape first."""
    if isinstance(examples, Mapping):
        for key in sorted(examples):
            yield str(key).encode()
            yield from _as_bytes(examples[key])
        return
    if isinstance(examples, tuple):
        for array in examples:
            yield from _as_bytes(array)
        return
    if examples.dtype != object:
        yield f"{examples.dtype} {examples.shape}".encode()
        yield from (row.tobytes() for row in examples)
        return
    yield from (example.encode() if isinstance(example, str) else example for example in examples)


def require_classes(where: str, received: str, classes: Sequence[str]) -> None:
    """Refuses fewer than two classes.

    Raises:
        ConfigError: naming the key `where` and what it has `received`.
    """
    if len(classes) < 2:
        raise ConfigError(
            f"{where} must be a dataset of at least 2 classes. Received: {received} "
            f"({len(classes)} class{'es' * (not classes)}). Choose another dataset."
        )

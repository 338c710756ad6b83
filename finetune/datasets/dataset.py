"""The data of a run: images, texts or arrays in memory, by split."""

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
        name: Name of the split: train, validation or test.
        examples: (n,) object array of encoded images (bytes) or of texts (str); or an array of
            numbers: (n, height, width, channels) images in 0..255, or the inputs of a user's own
            model, which may also be a dictionary or tuple of arrays.
        labels: (n,) int64 class indices; (n, classes) uint8 of 0 and 1 for multi-label data.
        fingerprint: Digest of the examples and labels, set by `make_dataset`.
        sources: (n,) object array of str with the origin of each example: a file below the
            dataset's path, or a line or row of a file. None if examples have no names.
        ways: (n,) int32, the way to decode each image, see `headers.way_to_decode`. None if all
            images are upright and opaque.
        identities: (n,) object array of the values to digest instead of the examples; None digests
            the examples.
        digests: (n,) uint64, see `row_digests`; set by `make_dataset`.
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
        """The number of examples in this split."""
        return len(self.labels)

    def source(self, row: int) -> str:
        """Returns a readable description of where an example comes from."""
        return f"{self.name} row {row + 1}" if self.sources is None else self.sources[row]

    def take(self, rows: np.ndarray) -> "Split":
        """Returns a split of the chosen rows, without a fingerprint."""
        kept = {
            key: None if (held := getattr(self, key)) is None else held[rows]
            for key in ("examples", "labels", "sources", "ways", "identities", "digests")
        }
        return Split(self.name, **kept)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The splits of a dataset. `fingerprint` changes with any example, label or row.

    Args:
        name: Name of the dataset.
        fingerprint: Hexadecimal SHA-256 digest.
        classes: Label names in the order of the indices.
        splits: The splits train, validation and test.
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
        skipped: Bad samples that were left out of all splits.
        repeated: Number of samples that two splits share, by the names of both.
        ignored: Number of files that are not examples, by kind.
        used: The folder, file or array that each split was read or taken from; empty for datasets
            that are not read from files.
        unused: Names of folders and files next to them that belong to no split.
        notes: Remarks on how the data were read where the user may have meant something else, one
            line each.
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
        """Whether an example may have any number of labels."""
        return self.splits["train"].labels.ndim == 2


@dataclass(frozen=True)
class Found:
    """What a source holds apart from its rows.

    Args:
        used: The folder, file or array of each split in the source, by the name of the split.
        unused: Names of folders and files next to them that belong to no split.
        ignored: Number of files that are not examples, by kind.
        root: Directory that relative paths start from; None if there are no relative paths.
        notes: Remarks on how the data were read where the user may have meant something else, one
            line each.
    """

    used: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    root: Path | None = None
    notes: tuple[str, ...] = ()


def split_line(used: Mapping[str, str], unused: Sequence[str]) -> str:
    """Returns one line that says which folder, file or array is which split; see `Dataset`."""
    line = ", ".join(f"{split} is {where}" for split, where in used.items())
    return f"splits: {line}" + (f"; not used: {', '.join(unused)}" if unused else "")


def make_dataset(
    name: str,
    header: Sequence[Any],
    classes: Sequence[str],
    splits: Mapping[str, Split],
    kind: str = "image",
) -> Dataset:
    """Joins splits into a dataset and computes the digests of the splits and of the whole.

    Args:
        name: Name of the dataset. It is not part of the fingerprint: the same files may lie in
            another folder.
        header: JSON values that belong to the fingerprint: name, version, config.
        classes: Label names in the order of the indices; at least 2.
        splits: The splits train, validation and test.
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
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
    """Returns a digest of the content of each example, without its label and name, (n,) uint64.

    Equal examples have equal digests; different ones collide with a probability of about 2**-64.
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
    """Returns the digest of short data, or a checksum and the digest of some pieces of long data.

    A checksum is five times as fast as a digest.
    """
    if len(data) <= _SHORT:
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    middle = len(data) // 2
    pieces = data[:_PIECE] + data[middle : middle + _PIECE] + data[-_PIECE:]
    some = hashlib.blake2b(pieces, digest_size=4, salt=len(data).to_bytes(8, "little")).digest()
    return int.from_bytes(some, "little") << 32 | zlib.crc32(data)


def _as_bytes(examples: Any) -> Iterator[Any]:
    """Yields the identity of each example as bytes, after the dtype and shape of numbers."""
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
    """Refuses datasets with fewer than two classes.

    Raises:
        ConfigError: If there are fewer than two; it names the key `where` and the `received` value.
    """
    if len(classes) < 2:
        raise ConfigError(
            f"{where} must be a dataset of at least 2 classes. Received: {received} "
            f"({len(classes)} class{'es' * (not classes)}). Choose another dataset."
        )

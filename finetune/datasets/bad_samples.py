"""Bad samples: why they cannot be used, and how messages describe them."""

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

_SHOWN = 20
_RECORDED = 1000


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be used.

    Args:
        split: Name of the split: train, validation or test.
        source: A file below the dataset's path, or a line or row of a file.
        reason: Short description of what is wrong.
        tried: Path of the file that could not be read; empty for samples that are not files.
    """

    split: str
    source: str
    reason: str
    tried: str = ""


def unreadable(error: OSError | ValueError) -> str:
    """Returns why a file could not be read."""
    if not isinstance(error, OSError):
        return "not a file name"
    known = {
        errno.ENOENT: "no such file, or a broken link",
        errno.ELOOP: "a link that points back to itself",
    }
    return known.get(error.errno or 0, (error.strerror or "unreadable").lower())


def text_reason(value: Any) -> str | None:
    """Returns why a value cannot be used as a text, or None if it can."""
    if not isinstance(value, str) or not value.strip():
        return "without a text"
    if "\0" in value:
        return "with a NUL character"
    try:
        value.encode()  # JSON can write half a character: "\\ud800"
    except UnicodeEncodeError:
        return "with half a character"
    return None


def printable(name: str) -> str:
    """Returns a file name with the bytes that are not valid UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def listed_names(names: Iterable[str], between: str = ", ") -> str:
    """Returns at most ten names of files or folders, and the total number if there are more.

    >>> listed_names(["a", "b"], " and ")
    'a and b'
    """
    every = [printable(name) for name in names]
    return between.join(every[:10]) + (f", … ({len(every)} in all)" if len(every) > 10 else "")


def named(bad: Sequence[BadSample]) -> str:
    """Returns the samples grouped by reason, with all of them counted and at most 20 of them named.

    >>> named([BadSample("train", "a/1.png", "empty"), BadSample("test", "b/2.png", "empty")])
    '2 empty (a/1.png, b/2.png)'
    """
    reasons: dict[str, list[str]] = {}
    for sample in bad:
        reasons.setdefault(sample.reason, []).append(sample.source)
    left, parts = _SHOWN, []
    for reason, sources in reasons.items():
        shown = sources[:left] + ["…"] * (len(sources) > left)
        left -= min(left, len(sources))
        parts.append(f"{len(sources)} {reason} ({', '.join(shown)})")
    return "; ".join(parts)


def described(bad: Sequence[BadSample], totals: Mapping[str, int], root: Path | None) -> str:
    """Returns the samples grouped by reason. Splits that are bad as a whole get one sentence.

    Args:
        bad: The bad samples.
        totals: Number of samples in each split, good ones included; splits that are not listed are
            never described as a whole.
        root: Directory that relative paths start from; None if there are no relative paths.
    """
    by_split: dict[str, list[BadSample]] = {}
    for sample in bad:
        by_split.setdefault(sample.split, []).append(sample)
    whole: dict[str, list[str]] = {}
    for split, samples in by_split.items():
        reasons = {sample.reason for sample in samples}
        if len(reasons) == 1 and len(samples) == totals.get(split):
            whole.setdefault(reasons.pop(), []).append(split)
    for reason, splits in list(whole.items()):
        if sum(len(by_split[split]) for split in splits) < 2:  # a single sample is simply named
            del whole[reason]
    parts = []
    for reason, splits in whole.items():
        first = by_split[splits[0]][0]
        tried = f", looked for at {first.tried}" if first.tried else ""
        if first.tried and root is not None:
            tried += f" (relative paths start from {root})"
        count = sum(len(by_split[split]) for split in splits)
        parts.append(
            f"all {count:,} of {' and '.join(splits)}: {reason}; the first is {first.source}{tried}"
        )
    left = [
        sample for sample in bad if not any(sample.split in splits for splits in whole.values())
    ]
    return "; ".join([*parts, *([named(left)] if left else [])])


def refusal(
    bad: Sequence[BadSample], totals: Mapping[str, int] | None = None, root: Path | None = None
) -> ConfigError:
    """Returns the error that names bad samples; see `described`."""
    return ConfigError(
        f"dataset must contain only usable samples. Received: {len(bad)} unusable ones: "
        f"{described(bad, totals or {}, root)}. Fix or remove them, or train without them: "
        "dataset.on_bad_sample=skip."
    )


def none_left(
    part: str, count: int, bad: Sequence[BadSample], root: Path | None = None
) -> ConfigError:
    """Returns the error for a split in which all samples are bad."""
    return ConfigError(
        f"dataset must have at least one usable sample in each split. Received: {part}, where all "
        f"{count} are bad. Fix them: {described(bad, {part: count}, root)}."
    )


def as_record(bad: Iterable[BadSample]) -> dict[str, Any]:
    """Returns the entry of run.json on skipped samples: counts per split, and at most 1000."""
    every = list(bad)
    counts: dict[str, int] = {}
    for sample in every:
        counts[sample.split] = counts.get(sample.split, 0) + 1
    keys = ("split", "source", "reason")
    samples = [{key: getattr(sample, key) for key in keys} for sample in every[:_RECORDED]]
    return {"counts": counts, "samples": samples} if every else {}

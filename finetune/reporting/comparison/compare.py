"""Runs side by side, from their records alone: what differs, what came out, which is best. Pure."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import ConfigError, unknown_name
from finetune.record.schema import SECONDS, RunRecord
from finetune.reporting.comparison.columns import Column, Value, is_number
from finetune.reporting.comparison.configs import differing, flat_config, flatten
from finetune.reporting.comparison.over_seeds import OverSeeds, over_seeds
from finetune.reporting.comparison.swept import labels, short_columns, swept_columns

LOWER_IS_BETTER = ("loss", "expected_calibration_error")


@dataclass(frozen=True)
class Run:
    """One run: where it is, and what it wrote down."""

    directory: Path
    record: RunRecord


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Args:
        folder: that all of them are in.
        runs: in the order of every column's values.
        names: their directories, from `folder` on.
        results: status, epochs, parameters, metrics, seconds, memory.
        swept: what tells the runs apart: what their commands set differently.
        labels: the same as a few words for each run.
        over_seeds: means of the runs that differ in their seed alone; None where there are none.
        config: keys of the config whose values differ.
        identity: data, weights, device and versions that differ.
        warnings: why their metrics may not be comparable.
    """

    folder: Path
    runs: tuple[Run, ...]
    names: tuple[str, ...]
    results: tuple[Column, ...]
    swept: tuple[Column, ...]
    labels: tuple[str, ...]
    over_seeds: OverSeeds | None
    config: tuple[Column, ...]
    identity: tuple[Column, ...]
    warnings: tuple[str, ...]

    @property
    def columns(self) -> dict[str, Column]:
        """All columns, by key."""
        every = (*self.swept, *self.results, *self.config, *self.identity)
        return {each.key: each for each in every}


def compare(runs: Sequence[Run], sort: str | None = None) -> Comparison:
    """Compares runs.

    Args:
        runs: at least one.
        sort: key of a column to sort by, or the short name of a swept one: the best run first, or
            the lowest value where none is better; runs without a value come last. None: as given.

    Raises:
        ConfigError: for a key that is not there.
    """
    compared = _compare(runs)
    if sort is None:
        return compared
    columns = {each.key: each for each in short_columns(compared.swept)} | compared.columns
    if sort not in columns:
        shown = unknown_name("--sort", "a column", sort, columns)
        raise ConfigError(shown)
    return _compare([runs[index] for index in _order(columns[sort])])


def _compare(runs: Sequence[Run]) -> Comparison:
    paths = [each.directory.absolute() for each in runs]
    folder = Path(os.path.commonpath([each.parent for each in paths]))
    names = tuple(str(each.relative_to(folder)) for each in paths)
    records = [each.record for each in runs]
    flat = [flat_config(each) for each in records]
    identity = [_identity(each) for each in records]
    results, config = tuple(_results(records)), tuple(differing(flat))
    swept = swept_columns(records, config, flat)
    return Comparison(
        folder=folder,
        runs=tuple(runs),
        names=names,
        results=results,
        swept=swept,
        labels=labels(swept, names),
        over_seeds=over_seeds(records, flat, identity, results, swept),
        config=config,
        identity=tuple(differing(identity)),
        warnings=tuple(_warnings(records, names)),
    )


def _order(column: Column) -> list[int]:
    def place(index: int) -> tuple[int, float, str]:
        value = column.values[index]
        if value is None or value != value:
            return 2, 0.0, ""
        if not is_number(value):
            return 1, 0.0, str(value)
        return 0, -value if column.better == "high" else value, ""

    return sorted(range(len(column.values)), key=place)


def _results(records: Sequence[RunRecord]) -> Iterator[Column]:
    def column(
        key: str, of: Callable[[RunRecord], Value], kind: str, better: str | None = None
    ) -> Column:
        return Column(key, tuple(map(of, records)), kind, better, judged=False)

    yield column("status", lambda r: r.status, "text")
    yield column("epochs", lambda r: sum(p.epochs_run for p in r.phases), "count")
    yield column("trainable", _most_trainable, "count")
    directions = {name: way for r in records for name, way in r.directions.items()}
    metrics: dict[str, list[Mapping[str, float]]] = {
        "validation": [_validation(each) for each in records],
        "test": [each.test for each in records],
    }
    for split, found in metrics.items():
        for name in dict.fromkeys(name for each in found for name in each):
            values = tuple(each.get(name) for each in found)
            lower = name in LOWER_IS_BETTER or directions.get(name) == "min"
            kind = "number" if name == "loss" or name in directions else "percent"
            better, judged = "low" if lower else "high", split == "validation"
            yield Column(f"{split}.{name}", values, kind, better, judged)
    yield column("seconds.total", lambda r: r.seconds.get("total"), "seconds", "low")
    for part in SECONDS:
        made = column(f"seconds.{part}", lambda r, part=part: r.seconds.get(part), "seconds")
        if any(made.values):
            yield made
    yield column("peak_memory_bytes", lambda r: r.peak_memory_bytes or None, "bytes", "low")


def _validation(record: RunRecord) -> Mapping[str, float]:
    """Returns the metrics of the last phase that has come to some."""
    found = [p.metrics["validation"] for p in record.phases if "validation" in p.metrics]
    return found[-1] if found else {}


def _most_trainable(record: RunRecord) -> int | None:
    return max((p.weight_counts["trainable"]["parameters"] for p in record.phases), default=None)


def _identity(record: RunRecord) -> dict[str, Value]:
    """Returns what a run was computed of and on; digests by their first 8 digits."""
    return {
        "backbone": record.backbone.name,
        "backbone.source": record.backbone.source,
        "backbone.weights_sha256": record.backbone.weights_sha256[:8],
        "backbone.preprocessing_sha256": record.backbone.preprocessing_sha256[:8],
        "dataset": record.dataset.name,
        "dataset.fingerprint": record.dataset.fingerprint[:8],
        "dataset.num_classes": record.dataset.num_classes,
        **{f"dataset.splits.{k}": v for k, v in record.dataset.splits.items()},
        **dict(flatten(record.device, "device")),
        **dict(flatten(record.versions, "versions")),
    }


def _warnings(records: Sequence[RunRecord], names: Sequence[str]) -> Iterator[str]:
    asked = {
        "data": [each.dataset.fingerprint for each in records],
        "pretrained weights": [each.backbone.weights_sha256 for each in records],
        "preprocessing": [each.backbone.preprocessing_sha256 for each in records],
    }
    for what, digests in asked.items():
        groups: dict[str, list[str]] = {}
        for name, digest in zip(names, digests, strict=True):
            groups.setdefault(digest, []).append(name)
        if len(groups) > 1:
            shown = "; ".join(f"{d[:8] or '–'} in {_some(n)}" for d, n in groups.items())
            yield f"not the same {what}, so metrics may not be comparable: {shown}"


def _some(names: Sequence[str], most: int = 5) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")

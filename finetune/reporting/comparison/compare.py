"""Compares runs by their records alone: results, differences and best values. Pure."""

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
    """A run directory with its record."""

    directory: Path
    record: RunRecord


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Args:
        folder: Common folder of all runs.
        runs: Runs in the order of the values in each column.
        names: Run directories relative to `folder`.
        results: Columns of status, epochs, parameters, metrics, seconds and memory.
        swept: Columns of the keys that the commands of the runs set to different values.
        labels: Short description of each run by these values.
        over_seeds: Means over runs that differ only in their seed; None if there are none.
        config: Columns of the config keys that differ.
        identity: Columns of data, weights, device and versions that differ.
        warnings: Reasons why the metrics may not be comparable.
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
        """All columns by key."""
        columns = (*self.swept, *self.results, *self.config, *self.identity)
        return {column.key: column for column in columns}


def compare(runs: Sequence[Run], sort: str | None = None) -> Comparison:
    """Compares runs.

    Args:
        runs: Runs to compare, at least one.
        sort: Key of the column to sort by, or the short name of a swept one. The best value comes
            first, or the lowest one if the column has no best, and missing values come last. None
            keeps the order.

    Raises:
        ConfigError: If there is no such column.
    """
    compared = _compare(runs)
    if sort is None:
        return compared
    short = {column.key: column for column in short_columns(compared.swept)}
    columns = short | compared.columns
    if sort not in columns:
        raise ConfigError(unknown_name("--sort", "a column", sort, columns))
    return _compare([runs[index] for index in _order(columns[sort])])


def _compare(runs: Sequence[Run]) -> Comparison:
    paths = [run.directory.absolute() for run in runs]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(str(path.relative_to(folder)) for path in paths)
    records = [run.record for run in runs]
    flat = [flat_config(record) for record in records]
    identity = [_identity(record) for record in records]
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
        "validation": [_validation(record) for record in records],
        "test": [record.test for record in records],
    }
    for split, found in metrics.items():
        for name in dict.fromkeys(name for values in found for name in values):
            values = tuple(by_name.get(name) for by_name in found)
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
    """Returns the metrics of the last phase that has any."""
    found = [p.metrics["validation"] for p in record.phases if "validation" in p.metrics]
    return found[-1] if found else {}


def _most_trainable(record: RunRecord) -> int | None:
    return max((p.weight_counts["trainable"]["parameters"] for p in record.phases), default=None)


def _identity(record: RunRecord) -> dict[str, Value]:
    """Returns data, weights, device and versions of a run, with 8 digits of each digest."""
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
    compared = {
        "data": [record.dataset.fingerprint for record in records],
        "pretrained weights": [record.backbone.weights_sha256 for record in records],
        "preprocessing": [record.backbone.preprocessing_sha256 for record in records],
    }
    for what, digests in compared.items():
        groups: dict[str, list[str]] = {}
        for name, digest in zip(names, digests, strict=True):
            groups.setdefault(digest, []).append(name)
        if len(groups) > 1:
            shown = "; ".join(f"{d[:8] or '–'} in {_some(n)}" for d, n in groups.items())
            yield f"the runs differ in {what}, so metrics may not be comparable: {shown}"


def _some(names: Sequence[str], most: int = 5) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")

"""Mean and standard deviation over runs that differ only in their seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.record.schema import RunRecord
from finetune.reporting.comparison.columns import Column, Value, is_number
from finetune.reporting.comparison.swept import WITHOUT_EFFECT, labels

SEED = "seed"
OF_THE_SEED = ("dataset.fingerprint", "backbone.weights_sha256")  # may depend on the seed


@dataclass(frozen=True)
class Spread:
    """Means over seeds with their standard deviations, one per group.

    Args:
        column: Column of means.
        deviations: Sample standard deviations (with n - 1); None for a group of one run.
    """

    column: Column
    deviations: tuple[float | None, ...]


@dataclass(frozen=True)
class OverSeeds:
    """Groups of runs that differ only in their seed.

    Args:
        labels: Settings that distinguish the groups.
        seeds: Seeds of each group.
        spreads: Means and deviations of each metric.
    """

    labels: tuple[str, ...]
    seeds: tuple[tuple[Value, ...], ...]
    spreads: tuple[Spread, ...]


def over_seeds(
    records: Sequence[RunRecord],
    config: Sequence[Mapping[str, Value]],
    identity: Sequence[Mapping[str, Value]],
    results: Sequence[Column],
    swept: Sequence[Column],
) -> OverSeeds | None:
    """Returns the groups; None if no two completed runs differ only in their seed.

    Of runs with the same settings and seed, the first one counts.

    Args:
        records: Records of the runs.
        config: Config of each run by dotted key.
        identity: Data, weights, device and versions of each run.
        results: Result columns, whose metrics are averaged.
        swept: Columns of the values that distinguish the runs.
    """
    groups: dict[frozenset[tuple[str, Value]], dict[Value, int]] = {}
    for index, record in enumerate(records):
        if record.status != "completed":
            continue
        whole = {**{f"identity.{k}": v for k, v in identity[index].items()}, **config[index]}
        whole = {k: v for k, v in whole.items() if not k.startswith(WITHOUT_EFFECT)}
        seed = whole.pop(SEED, record.seed)
        for key in OF_THE_SEED:
            if key == "dataset.fingerprint" or config[index].get("backbone.load_weights") is False:
                whole.pop(f"identity.{key}", None)
        groups.setdefault(frozenset(whole.items()), {}).setdefault(seed, index)
    members = list(groups.values())
    if all(len(group) < 2 for group in members):
        return None
    first = [next(iter(group.values())) for group in members]
    apart = [
        Column(column.key, tuple(column.values[index] for index in first))
        for column in swept
        if column.key != SEED
    ]
    names = ["all runs" if len(first) == 1 else f"group {n + 1}" for n in range(len(first))]
    metrics = [column for column in results if column.key.startswith(("validation.", "test."))]
    return OverSeeds(
        labels([column for column in apart if column.differs], names),
        tuple(tuple(group) for group in members),
        tuple(_spread(column, members) for column in metrics),
    )


def _spread(column: Column, members: Sequence[Mapping[Value, int]]) -> Spread:
    means: list[Value] = []
    deviations: list[float | None] = []
    for group in members:
        values = [column.values[index] for index in group.values()]
        known = [float(value) for value in values if is_number(value)]
        whole = len(known) == len(values)  # a mean over some of the runs would mislead
        means.append(statistics.fmean(known) if whole else None if None in values else math.nan)
        deviations.append(statistics.stdev(known) if whole and len(known) > 1 else None)
    return Spread(
        Column(column.key, tuple(means), column.kind, column.better, column.judged),
        tuple(deviations),
    )

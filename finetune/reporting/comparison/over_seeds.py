"""Mean and deviation of the runs that differ in their seed alone."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.record.schema import RunRecord
from finetune.reporting.comparison.columns import Column, Value, is_number
from finetune.reporting.comparison.swept import WITHOUT_EFFECT, labels

SEED = "seed"
OF_THE_SEED = ("dataset.fingerprint", "backbone.weights_sha256")  # a seed may change them


@dataclass(frozen=True)
class Spread:
    """Means over seeds, one a group, with their standard deviations.

    Args:
        column: the means.
        deviations: of the samples, with n - 1; None for a group of one run.
    """

    column: Column
    deviations: tuple[float | None, ...]


@dataclass(frozen=True)
class OverSeeds:
    """Groups of runs that differ in their seed alone.

    Args:
        labels: what tells the groups apart.
        seeds: of each group.
        spreads: of the metrics.
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
    """Returns the groups; None where no completed runs have the same settings but another seed.

    Of runs that agree in the seed too the first one counts.

    Args:
        records: of the runs.
        config: of each run, by dotted key.
        identity: what each run was computed of and on.
        results: of the runs; their metrics are averaged.
        swept: what tells the runs apart.
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
    if all(len(each) < 2 for each in members):
        return None
    first = [next(iter(each.values())) for each in members]
    apart = [
        Column(each.key, tuple(each.values[index] for index in first))
        for each in swept
        if each.key != SEED
    ]
    names = ["all runs" if len(first) == 1 else f"group {n + 1}" for n in range(len(first))]
    metrics = [each for each in results if each.key.startswith(("validation.", "test."))]
    return OverSeeds(
        labels([each for each in apart if each.differs], names),
        tuple(tuple(each) for each in members),
        tuple(_spread(each, members) for each in metrics),
    )


def _spread(column: Column, members: Sequence[Mapping[Value, int]]) -> Spread:
    means: list[Value] = []
    deviations: list[float | None] = []
    for group in members:
        values = [column.values[index] for index in group.values()]
        known = [float(each) for each in values if is_number(each)]
        whole = len(known) == len(values)  # the mean of some of them would be of other runs
        means.append(statistics.fmean(known) if whole else None if None in values else math.nan)
        deviations.append(statistics.stdev(known) if whole and len(known) > 1 else None)
    return Spread(
        Column(column.key, tuple(means), column.kind, column.better, column.judged),
        tuple(deviations),
    )

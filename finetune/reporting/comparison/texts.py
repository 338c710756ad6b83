"""A comparison as terminal tables, as JSON and as CSV."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from finetune.printable import printable
from finetune.reporting.comparison.columns import Column, Value
from finetune.reporting.comparison.compare import Comparison
from finetune.reporting.comparison.over_seeds import OverSeeds, Spread
from finetune.reporting.comparison.swept import short_columns
from finetune.reporting.exchange import csv_text, json_text
from finetune.reporting.numbers import number, percent, size
from finetune.reporting.terminal import listing
from finetune.reporting.terminal.closing import near
from finetune.reporting.terminal.listing import Listing, plain

BEST = "*"
SECONDS = "seconds."
_MANY = 6  # from this number on, runs are rows in the tables of differences, too


def shown(value: Value, kind: str) -> str:
    """Returns a value in the notation of its kind."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str) or kind == "text":
        return printable(str(value).lower() if isinstance(value, bool) else value)
    if kind == "percent":
        return percent(value)
    if kind == "bytes":
        return size(int(value))
    return {"count": f"{value:,}", "seconds": f"{value:.1f}"}.get(kind, number(value))


def tables(compared: Comparison) -> Iterator[RenderableType]:
    """Yields the terminal output: warnings, results and differences."""
    number = len(compared.runs)
    yield plain(f"{number} run{'s' * (number > 1)} in {near(compared.folder)}", "bold")
    for warning in compared.warnings:
        yield plain(f"warning: {warning}", "yellow")
    results = [column for column in compared.results if not column.key.startswith(SECONDS)]
    spent = [column for column in compared.results if column.key.startswith(SECONDS)]
    swept = short_columns(compared.swept)
    title = f"results ({BEST} best on validation)"
    yield from _titled(title, _by_run(compared, [*swept, *results]))
    if compared.over_seeds is not None:
        yield from _titled(
            "over seeds: mean ± standard deviation", _over_seeds(compared.over_seeds)
        )
    yield from _titled("seconds", _by_run(compared, spent, len(SECONDS)))
    for title, columns in (("config", compared.config), ("data and machine", compared.identity)):
        if columns:
            by_key = number < _MANY or len(columns) > number
            made = _by_key(compared, columns) if by_key else _by_run(compared, columns)
            yield from _titled(f"{title}: differences", made)
    if number > 1 and not compared.config:
        yield Text("\nconfig: no differences")


def _titled(title: str, made: Listing) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", "bold")
    yield made


def _by_run(compared: Comparison, columns: Sequence[Column], cut: int = 0) -> Listing:
    cells = [_cells(column) for column in columns]
    headers = [
        (listing.text if column.kind == "text" else listing.number)(header(column.key[cut:]))
        for column in columns
    ]
    rows = [[name, *(column[i] for column in cells)] for i, name in enumerate(compared.names)]
    return Listing([listing.text("run"), *headers], rows)


def spread_texts(spread: Spread) -> tuple[str, ...]:
    """Returns ``97.33% ± 0.21%`` for each group."""
    kind = spread.column.kind
    return tuple(
        shown(mean, kind)
        if deviation is None
        else f"{shown(mean, kind)} ± {shown(deviation, kind)}"
        for mean, deviation in zip(spread.column.values, spread.deviations, strict=True)
    )


def _over_seeds(found: OverSeeds) -> Listing:
    headers = [listing.number(header(spread.column.key)) for spread in found.spreads]
    rows: list[list[str | Text]] = [
        [name, str(len(found.seeds[i]))] for i, name in enumerate(found.labels)
    ]
    for spread in found.spreads:
        for index, text in enumerate(spread_texts(spread)):
            best = index in spread.column.best
            rows[index].append(plain(f"{BEST} {text}", "bold green") if best else plain(text))
    return Listing([listing.text("settings"), listing.number("n"), *headers], rows)


def _by_key(compared: Comparison, columns: Sequence[Column]) -> Listing:
    headers = [listing.text("key"), *map(listing.text, compared.names)]
    return Listing(headers, [[column.key, *_cells(column)] for column in columns])


def header(key: str) -> str:
    """Returns a key as words, between which a line can break."""
    return key.replace("expected_", "").replace("_", " ").replace(".", " ")


def _cells(column: Column) -> list[Text]:
    best = column.best
    return [
        plain(f"{BEST} {shown(value, column.kind)}", "bold green")
        if index in best
        else plain(shown(value, column.kind))
        for index, value in enumerate(column.values)
    ]


def to_json(compared: Comparison, unreadable: Sequence[str]) -> str:
    """Returns the comparison as strict JSON; numbers that are not finite are null."""
    runs = []
    for index, run in enumerate(compared.runs):
        phases = [
            {
                "name": phase.name,
                "policy": phase.policy,
                "epochs_run": phase.epochs_run,
                "trainable": phase.weight_counts["trainable"]["parameters"],
            }
            for phase in run.record.phases
        ]
        values = {
            part: {column.key: _strict(column.values[index]) for column in columns}
            for part, columns in _parts(compared).items()
        }
        named = {"directory": str(run.directory), "label": compared.labels[index]}
        runs.append({**named, **values, "phases": phases})
    best = {column.key: sorted(column.best) for column in compared.results if column.best}
    values = {
        "runs": runs,
        "best": best,
        "over_seeds": _seeds_json(compared.over_seeds),
        "warnings": list(compared.warnings),
        "unreadable": list(unreadable),
    }
    return json_text(values, indent=2) + "\n"


def _seeds_json(found: OverSeeds | None) -> list[dict[str, Any]]:
    return [
        {
            "settings": name,
            "seeds": list(found.seeds[index]),
            "mean": {s.column.key: _strict(s.column.values[index]) for s in found.spreads},
            "deviation": {s.column.key: _strict(s.deviations[index]) for s in found.spreads},
        }
        for index, name in enumerate(() if found is None else found.labels)
        if found is not None
    ]


def to_csv(compared: Comparison) -> str:
    """Returns one row per run; values that a run does not have are empty."""
    columns = [column for part in _parts(compared).values() for column in part]
    rows = [
        [str(run.directory), *(_strict(column.values[index]) for column in columns)]
        for index, run in enumerate(compared.runs)
    ]
    return csv_text([["directory", *(column.key for column in columns)], *rows])


def _parts(compared: Comparison) -> dict[str, tuple[Column, ...]]:
    return {
        "results": compared.results,
        "config": compared.config,
        "identity": compared.identity,
    }


def _strict(value: Value) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""A comparison as one HTML file with the validation curves of its runs."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from finetune.reporting.comparison.columns import Column
from finetune.reporting.comparison.compare import Comparison
from finetune.reporting.comparison.over_seeds import Spread
from finetune.reporting.comparison.swept import short_columns
from finetune.reporting.comparison.texts import SECONDS, header, shown, spread_texts
from finetune.reporting.plots import overlay
from finetune.reporting.plots.canvas import drawing, inline, svg
from finetune.reporting.run_names import run_name
from finetune.reporting.templating import render

_NAME = "validation"


@dataclass(frozen=True)
class Picture:
    """The validation curves, with the attributes that the macro of pictures needs."""

    markup: Markup
    name: str = _NAME
    title: str = "Validation"
    caption: str = (
        "Loss and accuracy of the validation split over the epochs of each run. The legend names the "
        "runs with the lowest loss."
    )
    wide: bool = False


@dataclass(frozen=True)
class Shown:
    """A column with the texts to show and the values to sort by."""

    header: str
    kind: str
    texts: tuple[str, ...]
    sorted: tuple[str, ...]
    best: frozenset[int]


def comparison_page(
    compared: Comparison, unreadable: Sequence[str] = (), folder: Path | None = None
) -> str:
    """Returns the page of a comparison.

    Args:
        compared: Comparison to show.
        unreadable: One line about each run that could not be read.
        folder: Folder of the page, which its links to the runs' pages start from; None for the
            working directory.
    """
    here = Path.cwd() if folder is None else folder
    results = [column for column in compared.results if not column.key.startswith(SECONDS)]
    seconds = [column for column in compared.results if column.key.startswith(SECONDS)]
    return render(
        "compare.html",
        run_name=run_name(compared.folder),
        place=str(compared.folder.absolute()),
        names=compared.names,
        labels=compared.labels,
        links=[_link(run.directory, here) for run in compared.runs],
        over_seeds=compared.over_seeds,
        spreads=[_of_spread(spread) for spread in _spreads(compared)],
        warnings=compared.warnings,
        unreadable=unreadable,
        picture=_picture(compared),
        results=[
            *(_shown(column, raw=True) for column in short_columns(compared.swept)),
            *(_shown(column) for column in results),
        ],
        seconds=[_shown(column, len(SECONDS)) for column in seconds],
        config=[_shown(column, raw=True) for column in compared.config],
        identity=[_shown(column, raw=True) for column in compared.identity],
    )


def _picture(compared: Comparison) -> Picture | None:
    content = overlay.overlay(compared.labels, [run.record for run in compared.runs])
    if content is None:
        return None
    with drawing():
        drawn = svg(overlay.draw(content))
    return Picture(Markup(inline(drawn, _NAME, overlay.words(content))))  # inline escapes its text


def _link(directory: Path, here: Path) -> str | None:
    """Returns the relative address of a run's page; None if there is no page."""
    page = directory.absolute() / "report.html"
    if not page.is_file():
        return None
    try:
        return quote(Path(os.path.relpath(page, here.absolute())).as_posix())
    except ValueError:  # on another drive
        return None


def _spreads(compared: Comparison) -> Sequence[Spread]:
    return () if compared.over_seeds is None else compared.over_seeds.spreads


def _of_spread(spread: Spread) -> Shown:
    return replace(_shown(spread.column), texts=spread_texts(spread))


def _shown(column: Column, cut: int = 0, raw: bool = False) -> Shown:
    """Returns a column for the page; missing values sort below all others."""
    missing = (
        "-1e308"
        if value is None or (isinstance(value, float) and math.isnan(value))
        else str(value)
        for value in column.values
    )
    return Shown(
        header=column.key if raw else header(column.key[cut:]),
        kind=column.kind,
        texts=tuple(shown(value, column.kind) for value in column.values),
        sorted=tuple(missing),
        best=column.best,
    )

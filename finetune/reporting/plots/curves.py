"""Loss, accuracy and learning rates over the epochs of the whole run, with its phases as bands."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from finetune.record.schema import RunRecord
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import (
    SMALL,
    WIDTH,
    axes_at,
    inches,
    label,
    legend,
    legend_shape,
    new_figure,
    widest,
)

LINES = {"train": ("accent", "training"), "validation": ("second", "validation")}
LOG_FROM = 30.0  # ratio of highest to lowest loss above which the scale is logarithmic
HEIGHTS = (1.15, 0.95, 0.65)  # inches of the three parts
GAP = 0.16
LEFT = 0.76
LONGEST = 12  # characters of the name of a phase or a range of stages
ANGLE = 60  # degrees by which names that are too long for their band are rotated
SINE, COSINE = math.sin(math.radians(ANGLE)), math.cos(math.radians(ANGLE))
UNFREEZES: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (1, 1.5))}
MOST_SPAN = 6.0  # largest length of the epoch axis in inches; names that overlap are left out
APART = 0.135  # inches between lines of small text


@dataclass(frozen=True)
class Band:
    """One phase on the axis of epochs.

    Args:
        name: Name of the phase.
        start: Number of epochs in the run before it.
        end: Number of epochs in the run up to its last one.
        unfreezes: Whether it trains stages that the phase before did not train.
        rates: (rate, stages) with the highest rate first and stages from the head downwards.
    """

    name: str
    start: int
    end: int
    unfreezes: bool
    rates: tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Curves:
    """Content of the picture; points are (epochs so far, loss, accuracy) by split."""

    points: tuple[tuple[str, tuple[tuple[int, float, float], ...]], ...]
    bands: tuple[Band, ...]
    best: tuple[int, float] | None
    kept: tuple[tuple[int, float], ...]


def curves(record: RunRecord) -> Curves | None:
    """Returns the content of the picture; None before the first epoch.

    `best` is the epoch with the lowest validation loss in the run, `kept` are the epochs whose
    weights a phase has restored (restore_best).
    """
    if not record.history:
        return None
    points = {
        split: tuple(
            (row.global_epoch + 1, row.loss, row.accuracy)
            for row in record.history
            if row.split == split
        )
        for split in LINES
    }
    losses = {epoch: loss for epoch, loss, _ in points["validation"] if math.isfinite(loss)}
    best = min(losses.items(), key=lambda pair: pair[1], default=None)
    kept = [phase.best_epoch + 1 for phase in record.phases if phase.best_epoch is not None]
    shown = tuple((epoch, losses[epoch]) for epoch in kept if epoch in losses)
    return Curves(tuple(points.items()), tuple(_bands(record)), best, shown)


def _bands(record: RunRecord) -> Iterator[Band]:
    before: set[str] | None = None
    for phase in record.phases:
        epochs = [row.global_epoch for row in record.history if row.phase == phase.index]
        trains = {stage["name"] for stage in phase.stages if stage["trainable"]["parameters"]}
        if epochs:
            grouped: dict[float, list[str]] = {}
            for stage, rate in reversed(phase.learning_rates.items()):
                grouped.setdefault(rate, []).append(stage)
            rates = tuple(sorted(((r, tuple(s)) for r, s in grouped.items()), reverse=True))
            fresh = before is not None and bool(trains - before)
            yield Band(phase.name, min(epochs), max(epochs) + 1, fresh, rates)
        before = trains


def words(shown: Curves) -> str:
    """Returns a description of the picture in words."""
    parts = []
    for split, points in shown.points:
        if points:
            _, loss, accuracy = points[-1]
            parts.append(f"last {LINES[split][1]} loss {loss:.4g}, accuracy {accuracy:.4g}")
    if shown.best is not None:
        parts.append(f"lowest validation loss {shown.best[1]:.4g} after epoch {shown.best[0]}")
    phases = ", ".join(f"{label(b.name)} to epoch {b.end}" for b in shown.bands)
    return f"Curves over {shown.bands[-1].end} epochs ({phases}): {'; '.join(parts)}."


def draw(shown: Curves) -> Figure:
    """Draws loss, accuracy and rates below each other, over a common axis of epochs."""
    total = shown.bands[-1].end
    lowest = [label(_names(stages), LONGEST) for _, stages in shown.bands[-1].rates]
    lowest = lowest if len(lowest) > 1 else []  # a single rate needs no names
    left, right = LEFT, 0.12 + (widest(lowest, SMALL) if lowest else 0.08)
    span = WIDTH - left - right
    names = [label(band.name, LONGEST) for band in shown.bands]
    steep = any(
        inches(name, SMALL) > span * (band.end - band.start) / total
        for name, band in zip(names, shown.bands, strict=True)
    )
    if steep:  # the names of the last bands extend beyond the right edge
        leans = [
            inches(name, SMALL) * COSINE
            + 0.1
            - span * (total - (band.start + band.end) / 2) / total
            for name, band in zip(names, shown.bands, strict=True)
        ]
        right = max(right, *leans)
        span = max(WIDTH - left - right, min(_span_of_names(shown.bands), MOST_SPAN))
    handles = _legend(shown)
    _, above = legend_shape([str(handle.get_label()) for handle in handles], WIDTH)
    head = above + 0.12 + (SINE * widest(names, SMALL) + 0.06 if steep else 0.12)
    height = sum(HEIGHTS) + 2 * GAP + head + 0.45
    figure = new_figure(left + span + right, height)
    axes, top = [], head
    for part in HEIGHTS:
        bottom = height - top - part
        axes.append(axes_at(figure, left, bottom, right, top, xlim=(0, total)))
        top += part + GAP
    for part in axes:
        _bands_behind(part, shown.bands)
    _lines(axes[0], shown, 1)
    _lines(axes[1], shown, 2)
    _scale_loss(axes[0], shown)
    _marks(axes[0], shown)
    for part, name in zip(axes, ("loss", "accuracy", "rate"), strict=True):
        part.set_ylabel(name)
        part.yaxis.set_label_coords(-0.6 / span, 0.5)
    axes[1].yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.4g}%"))
    axes[1].yaxis.set_major_locator(MaxNLocator(4))
    _rates(axes[2], shown.bands, lowest)
    axes[2].set_xlabel("epochs")
    for part in axes:
        part.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        part.tick_params(labelbottom=part is axes[2])
    _phase_names(axes[0], shown.bands, names, steep, span / total)
    legend(figure, handles, "upper left")
    return figure


def _span_of_names(bands: Sequence[Band]) -> float:
    """Returns the length of the axis in inches that keeps rotated names apart."""
    middles = [(band.start + band.end) / 2 for band in bands]
    gaps = [after - before for before, after in itertools.pairwise(middles)]
    return 1.01 * APART / SINE * bands[-1].end / min(gaps) if gaps else 0.0


def _names(stages: Sequence[str]) -> str:
    return stages[0] if len(stages) == 1 else f"{stages[0]} … {stages[-1]}"


def _bands_behind(axes: Axes, bands: Sequence[Band]) -> None:
    axes.grid(axis="y", linewidth=0.7)
    axes.set_axisbelow(True)
    for number, band in enumerate(bands):
        if number % 2:
            axes.axvspan(band.start, band.end, facecolor=light("band"), zorder=0, linewidth=0)
        if band.unfreezes:
            axes.axvline(band.start, color=light("ink"), **UNFREEZES, zorder=1.5)


def _phase_names(
    axes: Axes, bands: Sequence[Band], names: Sequence[str], steep: bool, inches_an_epoch: float
) -> None:
    """Writes names above the bands, rotated if one is too long, and skips names that overlap."""
    last = -math.inf
    for name, band in zip(names, bands, strict=True):
        middle = (band.start + band.end) / 2
        if (middle - last) * inches_an_epoch < (APART / SINE if steep else 0):
            continue
        last = middle
        turned = {"rotation": ANGLE, "ha": "left", "rotation_mode": "anchor"} if steep else {}
        axes.annotate(
            name, (middle, 1), (0, 3), xycoords=axes.get_xaxis_transform(), fontsize=SMALL,
            textcoords="offset points", color=light("muted"), **{"ha": "center", **turned},
        )  # fmt: skip


def _lines(axes: Axes, shown: Curves, value: int) -> None:
    finite = False
    for split, points in shown.points:
        epochs, values = [p[0] for p in points], [p[value] for p in points]
        finite = finite or any(map(math.isfinite, values))
        role, _ = LINES[split]
        size = 3.0 if len(points) <= 40 else 0.0
        dash = "--" if split == "validation" else "-"
        axes.plot(
            epochs, values, dash, color=light(role), clip_on=False,
            marker="o" if size else None, markersize=size,
        )  # fmt: skip
    if not finite:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "not finite", transform=axes.transAxes, ha="center", va="center",
            color=light("muted"),
        )  # fmt: skip


def _scale_loss(axes: Axes, shown: Curves) -> None:
    losses = [p[1] for _, points in shown.points for p in points if math.isfinite(p[1])]
    if losses and min(losses) > 0 and max(losses) / min(losses) > LOG_FROM:
        axes.set_yscale("log")
        _plain_numbers(axes)


def _plain_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.yaxis.set_minor_locator(NullLocator())  # minor ticks are slow to draw


def _power(value: float, _: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}".replace("e-0", "e-")


def _marks(axes: Axes, shown: Curves) -> None:
    given = {"linestyle": "none", "clip_on": False, "zorder": 5}
    for epoch, loss in shown.kept:
        axes.plot(
            epoch, loss, marker="D", markersize=6.5, markerfacecolor="none",
            markeredgecolor=light("ink"), **given,
        )  # fmt: skip
    if shown.best is not None:
        axes.plot(
            *shown.best, marker="*", markersize=10, color=light("mark"),
            markeredgecolor=light("surface"), markeredgewidth=0.6, **given,
        )  # fmt: skip


def _rates(axes: Axes, bands: Sequence[Band], lowest: Sequence[str]) -> None:
    """Draws the rates of each phase; the highest is that of the head."""
    rates = [rate for band in bands for rate, _ in band.rates]
    for band in bands:
        for number, (rate, _) in enumerate(band.rates):
            axes.plot(
                (band.start, band.end), (rate, rate), color=light("ink" if number == 0 else "muted"),
                linewidth=1.8 if number == 0 else 1.1, solid_capstyle="butt",
            )  # fmt: skip
    positive = [rate for rate in rates if rate > 0]
    if positive and len(positive) == len(rates):
        axes.set_yscale("log")
        axes.set_ylim(min(positive) / 2, max(positive) * 2)
        _plain_numbers(axes)
    at = -math.inf
    low, high = (math.log(max(limit, 1e-30)) for limit in axes.get_ylim())
    for (rate, _), name in reversed(list(zip(bands[-1].rates, lowest, strict=False))):
        place = (math.log(max(rate, 1e-30)) - low) / (high - low) * HEIGHTS[2]
        if place - at < APART:
            continue
        at = place
        axes.annotate(
            name, (1, rate), (3, 0), xycoords=axes.get_yaxis_transform(), va="center",
            textcoords="offset points", fontsize=SMALL, color=light("muted"),
        )  # fmt: skip


def _legend(shown: Curves) -> list[Line2D]:
    handles = [
        Line2D([], [], color=light(role), label=name, linestyle="--" if "val" in name else "-")
        for role, name in LINES.values()
    ]
    mark: Callable[..., Line2D] = lambda **given: Line2D([], [], linestyle="none", **given)  # noqa: E731
    if any(band.unfreezes for band in shown.bands):
        handles.append(Line2D([], [], color=light("ink"), label="unfreezes", **UNFREEZES))
    if shown.best is not None:
        best = "lowest validation loss"
        handles.append(mark(marker="*", markersize=9, color=light("mark"), label=best))
    if shown.kept:
        rim = light("ink")
        handles.append(mark(marker="D", mfc="none", mec=rim, markersize=6, label="weights kept"))
    return handles

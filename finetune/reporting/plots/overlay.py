"""Validation loss and accuracy of the compared runs in one picture, with the best ones highlighted."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from finetune.printable import printable
from finetune.record.schema import RunRecord
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import WIDTH, axes_at, label, legend, legend_shape, new_figure

# Four colours, then the same four dashed, so that readers need not tell more colours apart.
_ROLES = ("accent", "second", "good", "mark")
Style = tuple[str, Literal["-", "--"]]
STYLES: tuple[Style, ...] = (
    *((role, "-") for role in _ROLES),
    *((role, "--") for role in _ROLES),
)
HEIGHTS = (1.3, 1.3)  # inches of loss and accuracy
LEFT, RIGHT, TOP, GAP = 0.76, 0.12, 0.08, 0.16
HANDLE = 2.2  # length of a line in the legend in multiples of the font size
LONGEST = 40  # characters of a line in the legend
LOG_FROM = 30.0  # ratio of highest to lowest loss above which the scale is logarithmic


@dataclass(frozen=True)
class Line:
    """The validation metrics of one run: (epochs so far, loss, accuracy)."""

    name: str
    points: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Overlay:
    """Content of the picture.

    Args:
        named: Runs with the lowest validation loss, best first, at most one per style in `STYLES`.
        others: All other runs, drawn with thin lines and without names.
    """

    named: tuple[Line, ...]
    others: tuple[Line, ...]


def overlay(names: Sequence[str], records: Sequence[RunRecord]) -> Overlay | None:
    """Returns the content of the picture; None before the first epoch of any run."""
    lines = [
        Line(
            name,
            tuple(
                (row.global_epoch + 1, row.loss, row.accuracy)
                for row in record.history
                if row.split == "validation"
            ),
        )
        for name, record in zip(names, records, strict=True)
    ]
    lines = sorted((line for line in lines if line.points), key=_lowest)
    if not lines:
        return None
    return Overlay(tuple(lines[: len(STYLES)]), tuple(lines[len(STYLES) :]))


def _lowest(line: Line) -> float:
    return min((loss for _, loss, _ in line.points if math.isfinite(loss)), default=math.inf)


def words(shown: Overlay) -> str:
    """Returns a description of the picture in words."""
    parts = [f"{label(line.name, 3 * LONGEST)} {_lowest(line):.4g}" for line in shown.named]
    more = f", and {len(shown.others)} more" if shown.others else ""
    return f"Validation over epochs; lowest loss by run: {', '.join(parts)}{more}."


def draw(shown: Overlay) -> Figure:
    """Draws loss above accuracy, over a common axis of epochs."""
    handles = _handles(shown)
    _, below = legend_shape([str(handle.get_label()) for handle in handles], WIDTH, HANDLE)
    height = TOP + sum(HEIGHTS) + GAP + 0.45 + below
    figure = new_figure(WIDTH, height)
    last = max(line.points[-1][0] for line in (*shown.named, *shown.others))
    top = TOP
    for value, (name, part) in enumerate(zip(("loss", "accuracy"), HEIGHTS, strict=True), 1):
        axes = axes_at(figure, LEFT, height - top - part, RIGHT, top, xlim=(0, last * 1.02))
        _draw_lines(axes, shown, value)
        axes.set_ylabel(name)
        axes.yaxis.set_label_coords(-0.6 / (WIDTH - LEFT - RIGHT), 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        if value == 1:
            axes.tick_params(labelbottom=False)
            _scale(axes, shown)
        else:
            axes.set_xlabel("epochs")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.4g}%"))
        top += part + GAP
    legend(figure, handles, "lower left", HANDLE)
    return figure


def _draw_lines(axes: Axes, shown: Overlay, value: int) -> None:
    axes.grid(axis="y", linewidth=0.7)
    axes.set_axisbelow(True)
    for line in shown.others:
        points = [(p[0], p[value]) for p in line.points]
        axes.plot(*zip(*points, strict=True), color=light("untrainable"), linewidth=0.7, zorder=1)
    for (role, dash), line in reversed(list(zip(STYLES, shown.named, strict=False))):
        points = [(p[0], p[value]) for p in line.points]
        marker = "o" if len(points) <= 40 else ""
        axes.plot(
            *zip(*points, strict=True), dash, color=light(role), marker=marker, markersize=2.5,
            clip_on=False,
        )  # fmt: skip


def _scale(axes: Axes, shown: Overlay) -> None:
    losses = [p[1] for line in (*shown.named, *shown.others) for p in line.points]
    finite = [loss for loss in losses if math.isfinite(loss)]
    if finite and min(finite) > 0 and max(finite) / min(finite) > LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.tick_params(which="minor", length=0, labelleft=False)


def _folded(name: str) -> str:
    """Returns a whole name wrapped to lines that fit, because runs may differ anywhere in it."""
    lines = textwrap.wrap(printable(name), LONGEST, break_long_words=False, break_on_hyphens=False)
    return "\n".join(label(line, LONGEST) for line in lines)


def _handles(shown: Overlay) -> list[Line2D]:
    handles = [
        Line2D([], [], color=light(role), linestyle=dash, label=_folded(line.name))
        for (role, dash), line in zip(STYLES, shown.named, strict=False)
    ]
    if shown.others:
        more = f"{len(shown.others)} more"
        handles.append(Line2D([], [], color=light("untrainable"), linewidth=0.7, label=more))
    return handles

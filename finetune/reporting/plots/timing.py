"""The time that each part and phase of a run took, and the forecast savings of stored features."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finetune.record.schema import SECONDS, RunRecord
from finetune.reporting.numbers import duration
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import (
    SMALL,
    WIDTH,
    axes_at,
    bare,
    inches,
    label,
    new_figure,
    widest,
)

ROW = 0.24  # inches
LEAST_BAR = 0.5  # least length of the longest bar in inches


@dataclass(frozen=True)
class Timing:
    """Content of the picture, in seconds.

    Args:
        total: Total of the run so far.
        parts: (name, seconds) of parts that add up to the total.
        phases: (name, seconds, forecast savings of stored features) of each phase.
    """

    total: float
    parts: tuple[tuple[str, float], ...]
    phases: tuple[tuple[str, float, float], ...]


def timing(record: RunRecord) -> Timing | None:
    """Returns the content of the picture; None before any time was recorded."""
    total = record.seconds.get("total", 0.0)
    if total <= 0.0:
        return None
    parts = [(name, record.seconds[name]) for name in SECONDS if record.seconds.get(name, 0.0) > 0]
    rest = total - sum(seconds for _, seconds in parts)
    if rest > 0.0:
        parts.append(("other", rest))
    saved = {d.phase: d.saves_seconds for d in record.features if d.stored}
    phases = tuple((p.name, p.seconds, saved.get(p.name, 0.0)) for p in record.phases)
    return Timing(total, tuple(parts), phases)


def words(shown: Timing) -> str:
    """Returns a description of the picture in words."""
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in shown.parts)
    saved = sum(seconds for *_, seconds in shown.phases)
    more = f" Stored features save a forecast {duration(saved)}." if saved > 0 else ""
    return f"{duration(shown.total)} in total: {parts}.{more}"


def draw(shown: Timing) -> Figure:
    """Draws a bar per part of the run, and below it a bar per phase."""
    phases = [label(name) for name, *_ in shown.phases]
    left = widest([*phases, "evaluation"]) + 0.16
    rows = len(shown.parts) + len(phases)
    height = ROW * rows + 0.34 + (0.36 if phases else 0.0)
    longest = widest([_text(spent, saved) for _, spent, saved in shown.phases], SMALL)
    figure = new_figure(max(WIDTH, left + longest + LEAST_BAR), height)
    top = 0.28
    part_axes = axes_at(figure, left, height - top - ROW * len(shown.parts), 0.1, top)
    _title(part_axes, f"by part, of {duration(shown.total)}", left)
    names, seconds = zip(*shown.parts, strict=True)
    _bars(part_axes, names, seconds, [0.0] * len(names))
    if phases:
        axes = axes_at(figure, left, 0.06, 0.1, height - 0.06 - ROW * len(phases))
        _, spent, saved = zip(*shown.phases, strict=True)
        _title(axes, "by phase" + (", with forecast savings" if any(saved) else ""), left)
        _bars(axes, phases, spent, saved)
    return figure


def _title(axes: Axes, text: str, left: float) -> None:
    """Writes a title above axes that start `left` inches from the left edge of the figure."""
    axes.annotate(
        text, (0, 1), ((0.06 - left) * 72, 4), xycoords="axes fraction", textcoords="offset points",
        color=light("muted"), annotation_clip=False,
    )  # fmt: skip


def _text(spent: float, saved: float) -> str:
    return duration(spent) + (f", saves {duration(saved)}" if saved > 0 else "")


def _bars(
    axes: Axes, names: Sequence[str], seconds: Sequence[float], savings: Sequence[float]
) -> None:
    """Draws bars from the top, each extended by a hatched bar of the savings."""
    texts = [_text(spent, saved) for spent, saved in zip(seconds, savings, strict=True)]
    for y, (spent, saved, text) in enumerate(zip(seconds, savings, texts, strict=True)):
        axes.barh(y, spent, height=0.66, color=light("accent"))
        if saved > 0:
            axes.barh(
                y, saved, height=0.66, left=spent, facecolor="none", edgecolor=light("good"),
                hatch="////", linewidth=0.8,
            )  # fmt: skip
        axes.annotate(
            text,
            (spent + saved, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    width = axes.get_window_extent().width / axes.figure.dpi
    ends = [  # of the axis, so that each bar and its text fit
        (spent + saved) * width / max(width - inches(text, SMALL) - 0.1, 0.2)
        for spent, saved, text in zip(seconds, savings, texts, strict=True)
    ]
    axes.set(xlim=(0, max(ends, default=0.0) or 1.0), ylim=(len(names) - 0.5, -0.5))
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names)
    bare(axes)

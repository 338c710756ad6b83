"""The freeze map: the trainable stages of each phase, and the cuts of stored features."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from finetune.record.schema import STATES, FeatureDecision, PhaseRecord, RunRecord
from finetune.reporting.numbers import compact
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import SMALL, WIDTH, label, legend, legend_shape
from finetune.reporting.plots.stage_grid import CELL, stage_grid

SLIVER = 0.06  # least share of a cell for a state that occurs
ROW = 0.34  # inches


@dataclass(frozen=True)
class Cut:
    """The position of a cut in stages above the input."""

    height: float
    stored: bool


@dataclass(frozen=True)
class FreezeMap:
    """Content of the picture.

    Args:
        stages: Names of the stages from the input to the head.
        phases: Names of the phases in order.
        parameters: [phase][stage] parameters by state, in the order of `STATES`.
        cuts: Cut of each phase; None for a phase without one.
    """

    stages: tuple[str, ...]
    phases: tuple[str, ...]
    parameters: tuple[tuple[tuple[int, ...], ...], ...]
    cuts: tuple[Cut | None, ...]


def freeze_map(record: RunRecord) -> FreezeMap | None:
    """Returns the content of the picture; None before the first phase."""
    if not record.phases:
        return None
    stages = tuple(stage["name"] for stage in record.phases[0].stages)
    decisions = {decision.phase: decision for decision in record.features}
    return FreezeMap(
        stages,
        tuple(phase.name for phase in record.phases),
        tuple(_parameters(phase) for phase in record.phases),
        tuple(_cut(stages, decisions.get(phase.name)) for phase in record.phases),
    )


def _parameters(phase: PhaseRecord) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(stage[s]["parameters"] for s in STATES) for stage in phase.stages)


def _cut(stages: tuple[str, ...], decision: FeatureDecision | None) -> Cut | None:
    below = {} if decision is None else decision.below
    reached = [(i, below[name]) for i, name in enumerate(stages) if below.get(name, 0.0) > 0.0]
    if decision is None or not reached:
        return None
    index, share = reached[-1]
    return Cut(index + share, decision.stored)


def words(shown: FreezeMap) -> str:
    """Returns a description of the picture in words."""
    parts = []
    for phase, cells in zip(shown.phases, shown.parameters, strict=True):
        trains = [name for name, cell in zip(shown.stages, cells, strict=True) if cell[0]]
        stages = ", ".join(map(label, trains)) or "none"
        parts.append(f"trainable in phase {label(phase)}: {stages}")
    return f"Freeze map of {len(shown.stages)} stages: {'; '.join(parts)}."


def draw(shown: FreezeMap) -> Figure:
    """Draws stages from the input (bottom) to the head (top), and phases from left to right."""
    handles = _legend(shown)
    _, above = legend_shape([str(handle.get_label()) for handle in handles], WIDTH)
    texts = [line for cells in shown.parameters for cell in cells for line in _lines(cell)]
    figure, axes = stage_grid(shown.stages, shown.phases, ROW, above + 0.08, texts)
    for x, (cells, cut) in enumerate(zip(shown.parameters, shown.cuts, strict=True)):
        for y, cell in enumerate(cells):
            _cell(axes, x, y, cell, 0.5 if cut is None else _clear_of(cut.height - y))
        if cut is not None:
            _line(axes, x, cut)
    legend(figure, handles, "upper left")
    return figure


def _cell(axes: Axes, x: int, y: int, cell: tuple[int, ...], middle: float) -> None:
    """Draws a stage in a phase, each state as wide as its share, with the text at height `middle`."""
    total, (left, bottom, width, height) = sum(cell), CELL
    if total == 0:
        corner = (x + left, y + bottom)
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=light("line")))
        return
    shares = [max(number / total, SLIVER) if number else 0.0 for number in cell]
    at = x + left
    for state, share in zip(STATES, shares, strict=True):
        if share == 0.0:
            continue
        wide = width * share / sum(shares)
        box = Rectangle((at, y + bottom), wide, height, **_fill(state))
        axes.add_patch(box)
        at += wide
    axes.text(
        x + 0.5, y + middle, "\n".join(_lines(cell)), ha="center", va="center", fontsize=SMALL,
        color=light("on-colour"), linespacing=1.0,
        weight="bold" if cell[0] else "normal",
    )  # fmt: skip


def _lines(cell: tuple[int, ...]) -> list[str]:
    """Returns the text of a cell: its trainable parameters, or all of them if none is trainable."""
    trains, frozen, _ = cell
    if trains and frozen:
        return [compact(trains), f"of {compact(sum(cell))}"]
    return [compact(trains or sum(cell))]


def _clear_of(cut: float) -> float:
    """Returns the height of the text in a cell of height 1 that keeps it clear of a cut."""
    if not 0.2 < cut < 0.8:
        return 0.5
    return cut / 2 if cut >= 0.5 else (1 + cut) / 2


def _fill(state: str) -> dict[str, Any]:
    hatch = "////" if state == "untrainable" else None
    return {"facecolor": light(state), "edgecolor": light("muted"), "linewidth": 0, "hatch": hatch}


def _line(axes: Axes, x: int, cut: Cut) -> None:
    """Draws a cut with an outline, so that it stands out from cells of every colour."""
    ends, heights = (x + 0.01, x + 0.99), (cut.height, cut.height)
    given: dict[str, Any] = {"clip_on": False, "solid_capstyle": "butt", "zorder": 4}
    axes.plot(ends, heights, color=light("surface"), linewidth=4.6, **given)
    axes.plot(
        ends, heights, color=light("ink"), linewidth=2.2, **given, linestyle=_dash(cut.stored)
    )


def _dash(stored: bool) -> Any:
    return "-" if stored else (0, (2.0, 1.2))


def _legend(shown: FreezeMap) -> list[Patch | Line2D]:
    sums = [sum(cell[i] for cells in shown.parameters for cell in cells) for i in range(3)]
    handles: list[Patch | Line2D] = [
        Patch(label=state, **_fill(state))
        for state, total in zip(STATES, sums, strict=True) if total
    ]  # fmt: skip
    for stored, text in ((True, "cut, features stored"), (False, "cut, not stored")):
        if any(cut is not None and cut.stored is stored for cut in shown.cuts):
            given: dict[str, Any] = {"color": light("ink"), "linewidth": 2.2, "label": text}
            handles.append(Line2D([], [], linestyle=_dash(stored), **given))
    return handles

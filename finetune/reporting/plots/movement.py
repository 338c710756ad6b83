"""The relative change of the weights of each stage in each phase; exactly 0 for held weights."""

import math
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from finetune.record.schema import RunRecord
from finetune.reporting.palette import STRONGEST, light
from finetune.reporting.plots.canvas import SMALL, WIDTH, label, legend, legend_shape
from finetune.reporting.plots.stage_grid import CELL, stage_grid

ROW = 0.32  # inches
LEAST = 1e-6  # smallest change that is written as a number
MOST = 100.0  # change from which on it is written as a multiple instead of a percentage
PALEST = 0.12  # opacity of the smallest change


@dataclass(frozen=True)
class Movement:
    """Content of the picture: [phase][stage] relative change, or None if it was not recorded."""

    stages: tuple[str, ...]
    phases: tuple[str, ...]
    changes: tuple[tuple[float | None, ...], ...]


def movement(record: RunRecord) -> Movement | None:
    """Returns the content of the picture; None before the first phase has ended."""
    ended = [phase for phase in record.phases if phase.weight_change]
    if not ended:
        return None
    stages = tuple(stage["name"] for stage in ended[0].stages)
    changes = tuple(tuple(phase.weight_change.get(name) for name in stages) for phase in ended)
    return Movement(stages, tuple(phase.name for phase in ended), changes)


def words(shown: Movement) -> str:
    """Returns a description of the picture in words."""
    parts = []
    for phase, changes in zip(shown.phases, shown.changes, strict=True):
        held = [label(s) for s, c in zip(shown.stages, changes, strict=True) if c == 0.0]
        stages = f"{', '.join(held)} did not change" if held else "all stages changed"
        parts.append(f"in phase {label(phase)} {stages}")
    return f"Relative change of weights: {'; '.join(parts)}."


def draw(shown: Movement) -> Figure:
    """Draws stages from the input (bottom) to the head (top), and phases from left to right."""
    handles = [
        Patch(facecolor=light("trainable"), alpha=STRONGEST, label="moved (darker: more)"),
        Patch(facecolor=light("frozen"), label="0: not one bit changed"),
    ]
    _, above = legend_shape([str(handle.get_label()) for handle in handles], WIDTH)
    texts = [_text(change) for row in shown.changes for change in row]
    figure, axes = stage_grid(shown.stages, shown.phases, ROW, above + 0.06, texts)
    found = [_log(change) for row in shown.changes for change in row]
    logs = [log for log in found if log is not None]
    for x, row in enumerate(shown.changes):
        for y, change in enumerate(row):
            colour, opacity = _fill(change, logs)
            box = Rectangle((x + CELL[0], y + CELL[1]), *CELL[2:], linewidth=0)
            box.set(facecolor=colour, alpha=opacity)
            axes.add_patch(box)
            axes.text(
                x + 0.5, y + 0.5, _text(change), ha="center", va="center", fontsize=SMALL,
                color=light("on-colour" if change == 0.0 else "ink"),
                weight="bold" if change == 0.0 else "normal",
            )  # fmt: skip
    legend(figure, handles, "upper left")
    return figure


def _log(change: float | None) -> float | None:
    """Returns the base-10 logarithm of a change; None if it is 0 or not finite."""
    if change is None or not math.isfinite(change) or change <= 0.0:
        return None
    return math.log10(change)


def _fill(change: float | None, logs: list[float]) -> tuple[str, float]:
    """Returns the colour and the opacity of a change, on a logarithmic scale."""
    if change == 0.0:
        return light("frozen"), 1.0
    log = _log(change)
    if log is None:
        return light("band"), 1.0
    span = max(logs) - min(logs)
    share = 1.0 if span == 0.0 else (log - min(logs)) / span
    return light("trainable"), PALEST + (STRONGEST - PALEST) * share


def _text(change: float | None) -> str:
    """Returns 12%, 0.31%, 0.004% or 250×, and 0 only if the change is exactly 0."""
    if change is None:
        return "–"
    if change == 0.0:
        return "0"
    if not math.isfinite(change):
        return "new"  # the weights were all zero, so there is no ratio
    if change >= MOST:
        return (
            f"{change:.0f}×"
            if change < 1e4
            else f"{change:.0e}×".replace("e+0", "e").replace("e+", "e")
        )
    if change < LEAST:
        return f"<{100 * LEAST:.0e}%".replace("e-0", "e-")
    significant = 2 if change >= 1e-4 else 1  # a cell holds seven characters
    digits = max(0, significant - 1 - math.floor(math.log10(100 * change)))
    return f"{100 * change:.{digits}f}%"

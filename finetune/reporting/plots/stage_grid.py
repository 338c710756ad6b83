"""The grid of two pictures: a row per stage and a column per phase."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

COLUMN = 0.3  # least width in inches
ANGLE = 35  # degrees by which names that are too long for their column are rotated
SINE, COSINE = math.sin(math.radians(ANGLE)), math.cos(math.radians(ANGLE))
CELL = (0.03, 0.04, 0.94, 0.92)  # left, bottom, width and height of the filled part of a cell
_TITLE = SMALL + 0.5


def stage_grid(
    stages: Sequence[str], phases: Sequence[str], row: float, above: float, texts: Sequence[str]
) -> tuple[Figure, Axes]:
    """Returns a figure with empty cells of 1 × 1, the input at the bottom and the first phase left.

    Args:
        stages: Names of the stages from the input to the head.
        phases: Names of the phases in order.
        row: Height of a row in inches.
        above: Inches to leave free for a legend.
        texts: Lines of text that the cells must hold.
    """
    rows, columns = list(map(label, stages)), list(map(label, phases))
    column = max(COLUMN, widest(texts, SMALL) + 0.06)
    left = widest(rows) + 0.16
    space = max(WIDTH - left - 0.1, column * len(columns)) / len(columns)
    steep = widest(columns, _TITLE) > space - 0.06
    if steep:  # the names of the first columns extend beyond the left edge
        leans = [
            inches(name, _TITLE) * COSINE - space * (x + 0.5) for x, name in enumerate(columns)
        ]
        left = max(left, *leans) + 0.06
    width = max(WIDTH, left + column * len(columns) + 0.1)
    below = 0.2 + (SINE * widest(columns, _TITLE) if steep else 0.1)
    figure = new_figure(width, row * len(rows) + below + above)
    axes = axes_at(figure, left, below, 0.1, above)
    axes.set(xlim=(0, len(columns)), ylim=(0, len(rows)))
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
    turned = {"rotation": ANGLE, "ha": "right", "rotation_mode": "anchor"} if steep else {}
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns, fontsize=_TITLE, **turned)
    bare(axes)
    return figure, axes

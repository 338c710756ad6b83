"""The ground of two pictures: a row for each stage, a column for each phase."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finetune.reporting.plots.canvas import (
    SMALL,
    WIDTH,
    axes_at,
    bare,
    label,
    new_figure,
    widest,
)

COLUMN = 0.47  # inches, at least
CELL = (0.03, 0.04, 0.94, 0.92)  # left, bottom, width and height of what is filled, of a cell
_TITLE = SMALL + 1


def stage_grid(
    stages: Sequence[str], phases: Sequence[str], row: float, above: float
) -> tuple[Figure, Axes]:
    """Returns a figure with empty cells of 1 × 1: the input at the bottom, the first phase left.

    Args:
        stages: from the input to the head.
        phases: in order.
        row: height of a row, in inches.
        above: inches left free for a legend.
    """
    rows, columns = list(map(label, stages)), list(map(label, phases))
    left = widest(rows) + 0.16
    width = max(WIDTH, left + COLUMN * len(columns) + 0.1)
    steep = widest(columns, _TITLE) > (width - left - 0.1) / len(columns) - 0.06
    below = 0.22 + (0.55 * widest(columns, _TITLE) if steep else 0.08)
    figure = new_figure(width, row * len(rows) + below + above)
    axes = axes_at(figure, left, below, 0.1, above)
    axes.set(xlim=(0, len(columns)), ylim=(0, len(rows)))
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if steep else {}
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns, fontsize=_TITLE, **turned)
    bare(axes)
    return figure, axes

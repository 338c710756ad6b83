"""The confusion matrix of the test split."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from finetune.record.schema import RunRecord
from finetune.reporting.palette import STRONGEST, light
from finetune.reporting.plots.canvas import (
    SMALL,
    WIDTH,
    axes_at,
    bare,
    label,
    new_figure,
    widest,
)

MOST_CLASSES = 40  # of a readable matrix
NUMBERED = 12  # most classes for which cells show their count
LONGEST = 12
NUMBER = 7.5  # points
PALEST = 0.1  # opacity of the smallest share


@dataclass(frozen=True)
class Confusion:
    """Content of the picture: (class, predicted class, examples) by index in `classes`."""

    classes: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]


def confusion(record: RunRecord) -> Confusion | None:
    """Returns the content of the picture; None without a test split or with too many classes."""
    cells = tuple((row, column, count) for row, column, count in record.test_details.confusion)
    if not cells or len(record.dataset.classes) > MOST_CLASSES:
        return None
    return Confusion(tuple(record.dataset.classes), cells)


def most_frequent(record: RunRecord, at_most: int = 20) -> list[tuple[str, str, int, float]]:
    """Returns the most frequent errors as (class, predicted class, examples, share of the class)."""
    names, cells = record.dataset.classes, record.test_details.confusion
    sums: dict[int, int] = {}
    for row, _, count in cells:
        sums[row] = sums.get(row, 0) + count
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [(names[r], names[c], n, n / sums[r]) for r, c, n in wrong[:at_most]]


def words(shown: Confusion) -> str:
    """Returns a description of the picture in words."""
    right = sum(count for row, column, count in shown.cells if row == column)
    total = sum(count for *_, count in shown.cells)
    return (
        f"Confusion matrix of {len(shown.classes)} classes with {right} of {total} examples on the "
        "diagonal. The table below lists the most frequent confusions."
    )


def draw(shown: Confusion) -> Figure:
    """Draws a row per class, from the top, and a column per predicted class."""
    names = [label(name, LONGEST) for name in shown.classes]
    number = len(names)
    size = SMALL
    margin = widest(names, size) + 0.34
    numbers = [str(count) for *_, count in shown.cells] if number <= NUMBERED else []
    cell = max((WIDTH - margin - 0.1) / number, widest(numbers, NUMBER) + 0.04, 0.132)
    cell = min(cell, max(0.34, widest(numbers, NUMBER) + 0.04))
    side, turned = cell * number, widest(names, size) > cell - 0.04
    above = (widest(names, size) if turned else 0.14) + 0.36
    figure = new_figure(max(WIDTH, margin + side + 0.1), side + above + 0.08)
    spare = figure.get_size_inches()[0] - margin - side
    axes = axes_at(figure, margin, 0.08, spare, above)
    axes.set(xlim=(0, number), ylim=(number, 0))
    sums: dict[int, int] = {}
    for row, _, count in shown.cells:
        sums[row] = sums.get(row, 0) + count
    for row, column, count in shown.cells:
        share = count / sums[row]
        role = "accent" if row == column else "second"
        strength = share if row == column else min(1.0, share * 2)  # errors are full at one half
        opacity = PALEST + (STRONGEST - PALEST) * strength
        box = Rectangle((column, row), 1, 1, facecolor=light(role), alpha=opacity, linewidth=0)
        axes.add_patch(box)
        if number <= NUMBERED:
            axes.text(
                column + 0.5, row + 0.5, str(count), ha="center", va="center", fontsize=NUMBER,
                color=light("ink"),
            )  # fmt: skip
    for at in range(number + 1):
        for line in (axes.axhline, axes.axvline):
            line(at, color=light("line"), linewidth=0.5, zorder=0.5)
    ticks = [index + 0.5 for index in range(number)]
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xticks(ticks, names, fontsize=size, rotation=90 if turned else 0)
    axes.set(xlabel="predicted", ylabel="class")
    bare(axes)
    return figure

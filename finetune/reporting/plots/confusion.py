"""Which classes of the test split were taken for which."""

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

MOST_CLASSES = 40  # of a matrix that can be read
NUMBERED = 12  # classes up to which cells hold their number
LONGEST = 12
NUMBER = 7.5  # points
PALEST = 0.1  # opacity of the smallest share


@dataclass(frozen=True)
class Confusion:
    """What the picture shows: (class, predicted class, examples), by index in `classes`."""

    classes: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]


def confusion(record: RunRecord) -> Confusion | None:
    """Returns what of a record the picture shows; None for none, or too many classes."""
    cells = tuple((row, column, count) for row, column, count in record.test_details.confusion)
    if not cells or len(record.dataset.classes) > MOST_CLASSES:
        return None
    return Confusion(tuple(record.dataset.classes), cells)


def most_frequent(record: RunRecord, at_most: int = 20) -> list[tuple[str, str, int, float]]:
    """Returns (class, what it was taken for, examples, share of the class), most frequent first."""
    names, cells = record.dataset.classes, record.test_details.confusion
    sums: dict[int, int] = {}
    for row, _, count in cells:
        sums[row] = sums.get(row, 0) + count
    wrong = sorted((each for each in cells if each[0] != each[1]), key=lambda each: -each[2])
    return [(names[r], names[c], n, n / sums[r]) for r, c, n in wrong[:at_most]]


def words(shown: Confusion) -> str:
    """Says what the picture shows."""
    right = sum(count for row, column, count in shown.cells if row == column)
    total = sum(count for *_, count in shown.cells)
    return (
        f"Confusion matrix of {len(shown.classes)} classes: {right} of {total} examples on the "
        "diagonal; the most frequent confusions are in the table below."
    )


def draw(shown: Confusion) -> Figure:
    """Draws a row for each class, from the top, and a column for each prediction."""
    names = [label(each, LONGEST) for each in shown.classes]
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
        strength = share if row == column else min(1.0, share * 2)  # half of a class is much
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
    ticks = [each + 0.5 for each in range(number)]
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xticks(ticks, names, fontsize=size, rotation=90 if turned else 0)
    axes.set(xlabel="predicted", ylabel="class")
    bare(axes)
    return figure

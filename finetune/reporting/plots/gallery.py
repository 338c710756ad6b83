"""The table of pictures, and who draws them: each once, as long as what it shows is the same."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from finetune.record.schema import RunRecord
from finetune.reporting.plots import (
    confusion,
    curves,
    freeze_map,
    movement,
    reliability,
    timing,
)
from finetune.reporting.plots.canvas import WIDTH, drawing, inline, png, svg


@dataclass(frozen=True)
class Picture:
    """How one picture comes about.

    Args:
        title: a few words.
        caption: how it is read.
        content: returns what of a record it shows; None where there is nothing.
        words: says the same in words.
        draw: makes the figure of it.
    """

    title: str
    caption: str
    content: Callable[[RunRecord], Any]
    words: Callable[[Any], str]
    draw: Callable[[Any], Figure]

    def figure(self, record: RunRecord) -> Figure | None:
        """Returns the picture of a record; None where the record has nothing for it."""
        content = self.content(record)
        if content is None:
            return None
        with drawing():
            return self.draw(content)


PICTURES = {
    "freeze_map": Picture(
        "Freeze map",
        "Stages from the input at the bottom to the head, phases from left to right, and parameters: "
        "those that train where all or some do, else all of the stage. A line is the cut: what is "
        "below it is computed once where features are stored.",
        freeze_map.freeze_map, freeze_map.words, freeze_map.draw,
    ),
    "curves": Picture(
        "Curves",
        "Loss, accuracy and learning rates over the epochs of the whole run; bands are phases.",
        curves.curves, curves.words, curves.draw,
    ),
    "weight_movement": Picture(
        "Weight movement",
        "How far the weights of each stage moved in each phase, relative to their size before it. 0 "
        "means that not one bit changed.",
        movement.movement, movement.words, movement.draw,
    ),
    "time": Picture(
        "Time",
        "Where the seconds went. What stored features save is a forecast from a timed pass.",
        timing.timing, timing.words, timing.draw,
    ),
    "confusion": Picture(
        "Confusion matrix",
        "Classes of the test split in rows, predictions in columns. Darker means a larger share of "
        "the class; blue is right, red is wrong.",
        confusion.confusion, confusion.words, confusion.draw,
    ),
    "reliability": Picture(
        "Reliability",
        "Accuracy on the test split by the confidence of the prediction; below, the number of "
        "predictions.",
        reliability.reliability, reliability.words, reliability.draw,
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture that is drawn.

    Args:
        name: its key in `PICTURES`.
        picture: how it came about.
        words: what it shows, in words.
        figure: of matplotlib.
        file: SVG, as a file.
    """

    name: str
    picture: Picture
    words: str
    figure: Figure
    file: str

    @property
    def title(self) -> str:
        """A few words."""
        return self.picture.title

    @property
    def caption(self) -> str:
        """How it is read."""
        return self.picture.caption

    @property
    def wide(self) -> bool:
        """Whether a narrow page cannot show it whole."""
        return self.figure.get_size_inches()[0] > WIDTH + 0.01

    @property
    def inline(self) -> str:
        """SVG as part of a page, in which all text is escaped."""
        width = self.figure.get_size_inches()[0] * 96
        return inline(self.file, self.name, self.words, width if self.wide else 0.0)

    @property
    def markup(self) -> Markup:
        """The same, for a template."""
        return Markup(self.inline)

    def png(self) -> bytes:
        """Returns the picture as a PNG file."""
        return png(self.figure)


class Gallery:
    """Draws pictures of one run, and keeps each until what it shows is another."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[str, Drawing]] = {}

    def drawings(self, record: RunRecord, names: Iterable[str] = PICTURES) -> list[Drawing]:
        """Returns the pictures that a record has something for, in the order of the table."""
        found = []
        for name in names:
            picture = PICTURES[name]
            content = picture.content(record)
            if content is None:
                continue
            key = repr(content)  # which is equal where a loss is not a number, too
            if name not in self._drawn or self._drawn[name][0] != key:
                with drawing():
                    figure = picture.draw(content)
                made = Drawing(name, picture, picture.words(content), figure, svg(figure))
                self._drawn[name] = (key, made)
            found.append(self._drawn[name][1])
        return found

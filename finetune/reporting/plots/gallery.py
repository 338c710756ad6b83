"""The table of pictures, and a gallery that redraws a picture only if its content changes."""

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
    """Definition of a picture.

    Args:
        title: Title in a few words.
        caption: Explanation of how to read it.
        content: Function that extracts its content from a record; None if there is none.
        words: Function that describes the content in words.
        draw: Function that draws the content.
    """

    title: str
    caption: str
    content: Callable[[RunRecord], Any]
    words: Callable[[Any], str]
    draw: Callable[[Any], Figure]

    def figure(self, record: RunRecord) -> Figure | None:
        """Returns the figure for a record; None if the record has no content for it."""
        content = self.content(record)
        if content is None:
            return None
        with drawing():
            return self.draw(content)


PICTURES = {
    "freeze_map": Picture(
        "Freeze map",
        "Stages from the input (bottom) to the head (top), and phases from left to right. The "
        "numbers are parameters: the trainable ones of a stage, or all if none is trainable. The "
        "line is the cut: if features are stored, everything below it is computed only once.",
        freeze_map.freeze_map, freeze_map.words, freeze_map.draw,
    ),
    "curves": Picture(
        "Curves",
        "Loss, accuracy and learning rates over the epochs of the whole run; bands are phases.",
        curves.curves, curves.words, curves.draw,
    ),
    "weight_movement": Picture(
        "Weight movement",
        "The change of the weights of each stage in each phase, relative to their norm before the "
        "phase. 0 means that not one bit changed.",
        movement.movement, movement.words, movement.draw,
    ),
    "time": Picture(
        "Time",
        "The seconds of each part and phase of the run. The time that stored features save is a "
        "forecast from a timed pass.",
        timing.timing, timing.words, timing.draw,
    ),
    "confusion": Picture(
        "Confusion matrix",
        "Classes of the test split in rows, predictions in columns. Darker cells hold a larger share "
        "of the class. Blue marks correct predictions, red marks errors.",
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
    """A drawn picture.

    Args:
        name: Key in `PICTURES`.
        picture: Definition of the picture.
        words: Description of its content in words.
        figure: Figure of matplotlib.
        file: Content of the SVG file.
    """

    name: str
    picture: Picture
    words: str
    figure: Figure
    file: str

    @property
    def title(self) -> str:
        """Title in a few words."""
        return self.picture.title

    @property
    def caption(self) -> str:
        """Explanation of how to read the picture."""
        return self.picture.caption

    @property
    def wide(self) -> bool:
        """Whether the picture is too wide for a narrow page."""
        return self.figure.get_size_inches()[0] > WIDTH + 0.01

    @property
    def inline(self) -> str:
        """SVG for embedding in a page, with all text escaped."""
        width = self.figure.get_size_inches()[0] * 96
        return inline(self.file, self.name, self.words, width if self.wide else 0.0)

    @property
    def markup(self) -> Markup:
        """The embedded SVG as markup for a template."""
        return Markup(self.inline)

    def png(self) -> bytes:
        """Returns the picture as a PNG file."""
        return png(self.figure)


class Gallery:
    """Draws the pictures of one run, and keeps each until its content changes."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[str, Drawing]] = {}

    def drawings(self, record: RunRecord, names: Iterable[str] = PICTURES) -> list[Drawing]:
        """Returns the pictures for which a record has content, in the order of `names`."""
        found = []
        for name in names:
            picture = PICTURES[name]
            content = picture.content(record)
            if content is None:
                continue
            key = repr(content)  # compares equal even if a loss is NaN
            if name not in self._drawn or self._drawn[name][0] != key:
                with drawing():
                    figure = picture.draw(content)
                made = Drawing(name, picture, picture.words(content), figure, svg(figure))
                self._drawn[name] = (key, made)
            found.append(self._drawn[name][1])
        return found

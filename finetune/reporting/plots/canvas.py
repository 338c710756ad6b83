"""Figures without pyplot: sizes in inches, text that is data, SVG that is the same each time.

Everything is drawn inside `drawing`, with settings of its own: a user's matplotlibrc changes
nothing, and nothing is left behind in matplotlib's state.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from finetune.printable import printable
from finetune.reporting.palette import as_variables, light

WIDTH = 3.55  # inches of a picture that a page of 400 pixels shows whole, as large as it is drawn
ENLARGED = 1.25  # times that size at most, where the page is wider
DPI = 208  # of PNG files
FONT, SMALL = 9.0, 8.0  # points: 12 and 10.7 pixels where the picture is shown as it is
LEGEND = SMALL + 0.5
LEGEND_ROW = 0.172  # inches
LONGEST = 18  # characters of a name
_CHARACTER = 0.62  # of the font size, of DejaVu Sans on average
_WIDE = frozenset("mwMW%…×+")  # half as wide again
SETTINGS: dict[Any, Any] = {
    **{k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")},
    "svg.fonttype": "none",  # text stays text: searchable, and in the reader's font
    "svg.hashsalt": "finetune",  # or identifiers would differ each time
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": LEGEND,
    "text.color": light("ink"),
    "axes.labelcolor": light("ink"),
    "xtick.color": light("muted"),
    "ytick.color": light("muted"),
    "xtick.labelcolor": light("ink"),
    "ytick.labelcolor": light("ink"),
    "axes.edgecolor": light("muted"),
    "axes.facecolor": light("surface"),
    "figure.facecolor": light("surface"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "grid.color": light("line"),
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.8,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Holds the settings of this module, and warnings of letters that the font has not.

    PNG files show a box in their place; SVG and pages show them in a font of the reader.
    """
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, in inches."""
    return Figure((width, height))


def axes_at(figure: Figure, left: float, bottom: float, right: float, top: float, **given) -> Axes:
    """Adds axes that leave so many inches free at each side."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width)
    return figure.add_axes((*box, (height - bottom - top) / height), **given)


def label(text: object, longest: int = LONGEST) -> str:
    """Returns a name on one line, shortened in the middle: ends of paths and numbers tell apart."""
    shown = printable(text)
    if len(shown) <= longest:
        return shown
    tail = (longest - 1) // 3
    return f"{shown[: longest - 1 - tail]}…{shown[len(shown) - tail :]}"


def inches(text: str, size: float = FONT) -> float:
    """Returns about how wide a text is; letters of East Asia count twice."""
    wide = sum(1 for each in text if ord(each) >= 0x1100)
    wide += 0.5 * sum(1 for each in text if each in _WIDE)
    return (len(text) + wide) * size * _CHARACTER / 72


def widest(texts: Sequence[str], size: float = FONT) -> float:
    """Returns how wide the widest text is, in inches."""
    return max((inches(each, size) for each in texts), default=0.0)


def legend_shape(texts: Sequence[str], width: float, handle: float = 1.4) -> tuple[int, float]:
    """Returns the columns of a legend that fits into a width, and its height in inches.

    Args:
        texts: of the entries, of one line or several, which fill one column after the other.
        width: inches.
        handle: length of the line before a text, in multiples of the font's size.
    """
    extra = (handle + 0.8 + 1.0) * LEGEND / 72  # line, its distance, the next column's
    for columns in range(len(texts), 1, -1):
        rows = math.ceil(len(texts) / columns)
        parts = [texts[first : first + rows] for first in range(0, len(texts), rows)]
        widths = [widest("\n".join(part).split("\n"), LEGEND) + extra for part in parts]
        if len(parts) == columns and sum(widths) <= width:
            return columns, max(map(_lines, parts)) * LEGEND_ROW + 0.08
    return 1, _lines(texts) * LEGEND_ROW + 0.08


def _lines(texts: Sequence[str]) -> int:
    return sum(1 + each.count("\n") for each in texts)


def legend(
    figure: Figure,
    handles: Sequence[Any],
    place: Literal["upper left", "lower left"],
    handle: float = 1.4,
) -> None:
    """Adds a legend over the whole width of a figure."""
    columns, _ = legend_shape([each.get_label() for each in handles], figure.get_figwidth(), handle)
    figure.legend(
        handles=handles, loc=place, ncols=columns, bbox_to_anchor=(0, 1 if "upper" in place else 0),
        handlelength=handle, columnspacing=1.0, borderaxespad=0.2, labelspacing=0.25,
    )  # fmt: skip


def bare(axes: Axes) -> None:
    """Takes frame and tick marks away; labels stay."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG file, the same for the same figure."""
    written = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with drawing():
        FigureCanvasSVG(figure).print_svg(written, metadata=nothing)
    return written.getvalue().decode("utf-8")


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    written = io.BytesIO()
    with drawing():
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure).print_png(
            written, metadata={"Software": None}, pil_kwargs={"compress_level": 3}
        )
    return written.getvalue()


_ROOT = re.compile(r'<svg [^>]*?width="([\d.]+)pt" height="[\d.]+pt" viewBox="([^"]+)"[^>]*>')
_IDENTIFIER = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(?:xlink:href="|url\()#([^")]+)')


def inline(drawn: str, name: str, words: str, least: float = 0.0) -> str:
    """Returns SVG that is part of a page, whose colours and font it takes.

    Args:
        drawn: what `svg` returned.
        name: of the picture; identifiers begin with it, so that no two pictures share one.
        words: what the picture shows, for who does not see it; escaped here.
        least: pixels below which it is not shrunk.
    """
    found = _ROOT.search(drawn)
    if found is None:
        raise ValueError("drawn must be what svg() returned")
    body = drawn[found.end() :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    used = set(_REFERENCE.findall(body))
    body = _IDENTIFIER.sub(lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = _REFERENCE.sub(lambda m: m[0].replace("#", f"#{name}-"), body)
    body = re.sub(r"\s*\n\s*", "\n", as_variables(body))
    body = body.replace("'DejaVu Sans'", "var(--font)")
    natural = float(found[1]) * 96 / 72 * ENLARGED
    title = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    title = title.replace('"', "&quot;")
    return (
        f'<svg role="img" aria-label="{title}" viewBox="{found[2]}" '
        f'style="--natural:{natural:.0f}px;--least:{least:.0f}px">{body.strip()}'
    )

"""Figures without pyplot: sizes in inches, literal text, and reproducible SVG.

Everything is drawn inside `drawing`, with its own settings: a user's matplotlibrc has no effect, and
the state of matplotlib stays unchanged.
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

WIDTH = 3.55  # inches; a page of 400 pixels shows a picture of this width unscaled
ENLARGED = 1.25  # largest scale on a wider page
DPI = 208  # of PNG files
FONT, SMALL = 9.0, 8.0  # points; 12 and 10.7 pixels in an unscaled picture
LEGEND = SMALL + 0.5
LEGEND_ROW = 0.172  # inches
LONGEST = 18  # characters of a name
_CHARACTER = 0.62  # average width of a character of DejaVu Sans in multiples of the font size
_WIDE = frozenset("mwMW%…×+")  # characters that are about 1.5 times as wide
SETTINGS: dict[Any, Any] = {
    **{k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")},
    "svg.fonttype": "none",  # keep text as text: searchable, and in the reader's font
    "svg.hashsalt": "finetune",  # make identifiers reproducible
    "text.parse_math": False,  # show a $ in a name literally
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
    """Applies the settings of this module, and ignores warnings about glyphs that the font lacks.

    PNG files show a box for such a glyph; SVG files and pages use a font of the reader.
    """
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches."""
    return Figure((width, height))


def axes_at(figure: Figure, left: float, bottom: float, right: float, top: float, **given) -> Axes:
    """Adds axes with the given margins in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width)
    return figure.add_axes((*box, (height - bottom - top) / height), **given)


def label(text: object, longest: int = LONGEST) -> str:
    """Returns a name on one line, shortened in the middle, because names often differ at their end."""
    shown = printable(text)
    if len(shown) <= longest:
        return shown
    tail = (longest - 1) // 3
    return f"{shown[: longest - 1 - tail]}…{shown[len(shown) - tail :]}"


def inches(text: str, size: float = FONT) -> float:
    """Returns the approximate width of a text; East Asian characters count twice."""
    wide = sum(1 for character in text if ord(character) >= 0x1100)
    wide += 0.5 * sum(1 for character in text if character in _WIDE)
    return (len(text) + wide) * size * _CHARACTER / 72


def widest(texts: Sequence[str], size: float = FONT) -> float:
    """Returns the approximate width of the widest text in inches."""
    return max((inches(text, size) for text in texts), default=0.0)


def legend_shape(texts: Sequence[str], width: float, handle: float = 1.4) -> tuple[int, float]:
    """Returns the number of columns of a legend that fits a width, and its height in inches.

    Args:
        texts: Texts of the entries, which fill one column after the other; they may have line breaks.
        width: Width in inches.
        handle: Length of the line before a text in multiples of the font size.
    """
    extra = (handle + 0.8 + 1.0) * LEGEND / 72  # line, gap to the text, gap to the next column
    for columns in range(len(texts), 1, -1):
        rows = math.ceil(len(texts) / columns)
        parts = [texts[first : first + rows] for first in range(0, len(texts), rows)]
        widths = [widest("\n".join(part).split("\n"), LEGEND) + extra for part in parts]
        if len(parts) == columns and sum(widths) <= width:
            return columns, max(map(_lines, parts)) * LEGEND_ROW + 0.08
    return 1, _lines(texts) * LEGEND_ROW + 0.08


def _lines(texts: Sequence[str]) -> int:
    return sum(1 + text.count("\n") for text in texts)


def legend(
    figure: Figure,
    handles: Sequence[Any],
    place: Literal["upper left", "lower left"],
    handle: float = 1.4,
) -> None:
    """Adds a legend over the whole width of a figure."""
    texts = [entry.get_label() for entry in handles]
    columns, _ = legend_shape(texts, figure.get_figwidth(), handle)
    figure.legend(
        handles=handles, loc=place, ncols=columns, bbox_to_anchor=(0, 1 if "upper" in place else 0),
        handlelength=handle, columnspacing=1.0, borderaxespad=0.2, labelspacing=0.25,
    )  # fmt: skip


def bare(axes: Axes) -> None:
    """Removes frame and tick marks, but keeps labels."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def svg(figure: Figure) -> str:
    """Returns a figure as a reproducible SVG file."""
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
    """Returns SVG for embedding in a page, with the page's colours and font.

    Args:
        drawn: SVG file that `svg` returned.
        name: Name of the picture, which prefixes its identifiers to make them unique in the page.
        words: Description of the picture for screen readers; it is escaped here.
        least: Width in pixels below which the picture is not shrunk.
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

"""HTML pages that need nothing but themselves: one file, one style, one script, no request.

Templates escape all that they are given, refuse names that they are not given, and show text that
is data as `printable` does. The page's own policy (Content-Security-Policy) forbids the browser to
load anything, and to run any script but the one whose digest it names.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from finetune.printable import printable
from finetune.reporting import palette

TEMPLATES = "templates"


def render(template: str, **values: Any) -> str:
    """Returns a page.

    Args:
        template: name of a file in `templates/`; it extends ``base.html``, which says what it may
            fill in.
        values: what the template names.

    Raises:
        jinja2.UndefinedError: if the template names what is not given.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _text("script.js")
    environment.globals.update(
        style=Markup(palette.css() + _text("style.css")),  # files of this package
        script=Markup(script),
        policy=_policy(script),
    )
    environment.filters.update(
        number=_number, percent=_percent, seconds=duration, compact=compact, size=_size
    )
    return environment


def _text(name: str) -> str:
    return files("finetune.reporting").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _shown(value: Any) -> Any:
    """Returns text with what could hide or turn it written out; markup and line breaks stay."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _number(value: float, digits: int = 4) -> str:
    """Returns 1,234 for an integer, digits after the point for others; – for not a number."""
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value != value else f"{value:.{digits}f}"


def _percent(value: float, digits: int = 2) -> str:
    return "–" if value != value else f"{100 * value:.{digits}f} %"


def duration(seconds: float) -> str:
    """Returns 0.42 s, 14.2 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def compact(number: int) -> str:
    """Returns 1.2 M for 1,227,594: three digits at most, and a letter.

    >>> [compact(each) for each in (0, 128, 2570, 73984, 999_950, 1_227_594, 22_700_000)]
    ['0', '128', '2.6 k', '74 k', '1 M', '1.2 M', '23 M']
    """
    value, letters = float(number), iter(("", " k", " M", " G", " T"))
    letter = next(letters)
    while value >= 999.5:
        value, letter = value / 1000, next(letters)
    digits = 1 if letter and value < 9.95 else 0
    return f"{value:.{digits}f}".removesuffix(".0") + letter


def _size(number: int) -> str:
    """Returns bytes in units of 1000, as `ls --si` and rich do."""
    return f"{number} B" if number < 1000 else f"{compact(number)}B"

"""HTML pages that need nothing but themselves: one file, one style, one script, no request.

Templates escape all that they are given, refuse names that they are not given, and show text that
is data as `printable` does. The page's own policy (Content-Security-Policy) forbids the browser to
load anything, and to run any script but the one whose digest it names.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from finetune.printable import printable
from finetune.record.schema import count_text, non_trainable
from finetune.reporting import palette
from finetune.reporting.numbers import compact, duration, number, percent, size, worded

TEMPLATES = Path(__file__).with_name("templates")


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
        number=number,
        percent=percent,
        duration=duration,
        compact=compact,
        size=size,
        worded=worded,
        counted=count_text,
        non_trainable=non_trainable,
    )
    return environment


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


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

"""Renders self-contained HTML pages: one file with its own style and script, and no requests.

Templates escape all values, raise for missing ones, and show text as `printable` does. The page's
Content-Security-Policy forbids the browser to load anything, and to run any script but its own,
which it names by digest.
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
        template: Name of a file in `templates/` that extends ``base.html``.
        values: Values of the names in the template.

    Raises:
        jinja2.UndefinedError: If the value of a name is missing.
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
    """Returns text with invisible and direction-changing characters escaped, except in markup."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value

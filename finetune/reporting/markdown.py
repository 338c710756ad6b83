"""Renders Markdown templates whose values are shown literally and never interpreted as markup."""

import re
from pathlib import Path

from markupsafe import Markup

from finetune.printable import printable
from finetune.reporting.numbers import worded

TEMPLATES = Path(__file__).parent / "templates"
# An underscore inside a word has no meaning in Markdown.
_OBEYED = re.compile(r"[\\`*\[\]#|~$&<>]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "$": "&#36;"}


def render(template: str, **values: object) -> str:
    """Returns a rendered template of `finetune/reporting/templates`.

    Every value except `Markup` passes through `escape`; a missing value is an error.
    """
    import jinja2  # imported only to write a card

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(fenced=fenced, worded=worded)
    return environment.get_template(template).render(values)


def escape(text: object) -> str:
    r"""Returns text on one line that Markdown and HTML show literally, even in a table cell.

    >>> escape("a|b <i>*c*</i>")
    'a\\|b &lt;i&gt;\\*c\\*&lt;/i&gt;'
    """
    if isinstance(text, Markup):
        return text
    return _OBEYED.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), printable(text))


def fenced(text: str, language: str = "") -> Markup:
    """Returns a fenced code block; the text may contain backticks."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = "\n".join(printable(line) for line in text.splitlines())
    return Markup(f"{fence}{language}\n{lines}\n{fence}")

"""Templates of Markdown: what they are given is text that is shown, and not obeyed."""

import re
from pathlib import Path

from markupsafe import Markup

from finetune.printable import printable
from finetune.reporting.numbers import worded

TEMPLATES = Path(__file__).parent / "templates"
# An underscore inside a word is one.
_OBEYED = re.compile(r"[\\`*\[\]#|~$&<>]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "$": "&#36;"}


def render(template: str, **values: object) -> str:
    """Returns a template of `finetune/reporting/templates` filled in.

    Every value is escaped as `escape` does, unless it is a `Markup`; a name that is not given is an
    error.
    """
    import jinja2  # only where a card is written

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
    r"""Returns text on one line that Markdown and HTML show as it is, also in a cell of a table.

    >>> escape("a|b <i>*c*</i>")
    'a\\|b &lt;i&gt;\\*c\\*&lt;/i&gt;'
    """
    if isinstance(text, Markup):
        return text
    return _OBEYED.sub(lambda each: _ENTITIES.get(each[0], f"\\{each[0]}"), printable(text))


def fenced(text: str, language: str = "") -> Markup:
    """Returns a block of code around text of several lines, whatever backticks are in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = "\n".join(printable(line) for line in text.splitlines())
    return Markup(f"{fence}{language}\n{lines}\n{fence}")

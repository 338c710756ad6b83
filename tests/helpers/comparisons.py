"""Configs to compare, and comparisons as text."""

import html
import io
import re
from dataclasses import asdict

from rich.console import Console

from finetune.config.schema import Config, PhaseConfig
from finetune.reporting.comparison.texts import tables


def with_phases(**phases):
    """Returns the default config with these phases, given by their keys."""
    config = asdict(Config())
    config["schedule"]["phases"] = {k: asdict(PhaseConfig(**v)) for k, v in phases.items()}
    return config


def printed(compared, width=80):
    """Returns the tables of a comparison as a terminal of this width shows them."""
    out = io.StringIO()
    for table in tables(compared):
        Console(file=out, width=width, highlight=False).print(table)
    return out.getvalue()


def words(text):
    """Returns the text of an HTML page on one line, without its style and script."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

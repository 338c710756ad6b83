"""The messages that the page quotes are those of the code, so that the page cannot go stale."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


def texts_of(source):
    """Returns the strings of a module, with … for what is filled in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value.replace("{", "…{"))
    return found


@pytest.fixture(scope="module")
def texts():
    files = sorted((ROOT / "finetune").rglob("*.py"))
    assert len(files) > 50
    return [text for file in files for text in texts_of(file.read_text(encoding="utf-8"))]


def occurs(fragment, texts):
    pattern = re.compile(".*".join(map(re.escape, fragment.split("…"))), re.DOTALL)
    return any(pattern.search(text) for text in texts)


@pytest.mark.parametrize("fragment", QUOTED)
def test_a_quoted_message_is_in_the_code(fragment, texts):
    assert occurs(fragment, texts), "no message of the code reads like this any more"


def test_the_page_quotes_messages_and_a_wrong_one_is_noticed(texts):
    assert len(QUOTED) > 50
    assert not occurs("the loss must stay infinite", texts)

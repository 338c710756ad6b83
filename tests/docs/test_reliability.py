"""The page about reliability names tests that exist."""

import re

import pytest

from tests.helpers.shown_commands import ROOT

PAGE = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
MODULES = {
    path.relative_to(ROOT / "tests").as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "tests").rglob("test_*.py")
}
NAMED = sorted(set(re.findall(r"\b(test_\w+)(?!\w*\.py)", PAGE)))


def test_the_page_names_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name):
    """A name may be the start of a longer one, as the page shortens them."""
    as_module = any(path.endswith(f"/{name}.py") for path in MODULES)
    assert as_module or any(f"def {name}" in text for text in MODULES.values())


def test_the_named_modules_exist():
    lost = [
        path
        for path in re.findall(r"`([\w/]*test_\w+\.py)", PAGE)
        if not any(module.endswith(path) for module in MODULES)
    ]
    assert lost == []

"""The page about the architecture names files that exist; tests/test_architecture.py reads its table."""

import re

from tests.helpers.shown_commands import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_files_that_the_page_names_are_there():
    names = set(re.findall(r"`([\w/]+\.py)[`:]", PAGE))
    assert len(names) > 40
    present = [str(path) for room in ("finetune", "tests") for path in (ROOT / room).rglob("*.py")]
    lost = [name for name in names if not any(path.endswith(f"/{name}") for path in present)]
    assert not lost

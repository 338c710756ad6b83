"""The table of rooms names each module once, in the order in which imports run."""

import re

from tests.helpers.shown_commands import ROOT
from tests.test_architecture import ORDER

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_rooms_are_in_the_order_of_imports():
    table = PAGE.partition("\n## Rooms\n")[2].partition("\nImports run one way")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    named = [re.sub(r"(\.py|/)$", "", each) for each in re.findall(r"`([^`]+)`", " ".join(cells))]
    assert named == [each for each in ORDER if each != "__main__"]


def test_the_files_that_the_page_names_are_there():
    names = set(re.findall(r"`([\w/]+\.py)[`:]", PAGE))
    assert len(names) > 40
    present = [str(path) for room in ("finetune", "tests") for path in (ROOT / room).rglob("*.py")]
    lost = [each for each in names if not any(path.endswith(f"/{each}") for path in present)]
    assert not lost

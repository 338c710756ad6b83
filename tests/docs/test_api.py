"""The API reference describes what the package offers, all of it and nothing else."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import finetune

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_describes_each_public_name_once():
    described = re.findall(r"^::: finetune\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(described) == sorted(set(finetune.__all__) - {"__version__"})


def test_each_public_name_is_known_to_type_checkers_and_can_be_imported():
    tree = ast.parse(Path(finetune.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(finetune.__all__) - {"__version__"}
    for name in imported:
        assert getattr(finetune, name).__name__ == name
        assert getattr(finetune, name).__doc__


def test_records_and_errors_need_no_tensorflow():
    code = (
        "import sys, finetune; finetune.RunRecord, finetune.ConfigError; "
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr

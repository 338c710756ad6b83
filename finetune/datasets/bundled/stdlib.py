"""Reading of the standard library's docstrings from its sources, without importing modules."""

import ast
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from finetune.datasets.bundled.chapters import CHAPTERS

MIN_WORDS = 5
MAX_CHARACTERS = 2_000
_TESTS = {"test", "tests", "idle_test"}


class Docstring(NamedTuple):
    """A docstring with the dotted name of its module and of its object in the module."""

    module: str
    name: str
    text: str


def read_docstrings(root: Path | None = None) -> dict[str, list[Docstring]]:
    """Returns the docstrings of each chapter, in the order of modules and lines.

    Docstrings with fewer than 5 words are left out, and each text is used once, because backends of
    the same interface repeat each other. Long ones are cut to whole paragraphs of at most 2,000
    characters.

    Args:
        root: Directory of the sources; None takes those of the running interpreter.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    found: dict[str, list[Docstring]] = {}
    for chapter, modules in CHAPTERS.items():
        found[chapter] = []
        for docstring in (text for name in sorted(modules.split()) for text in _module(root, name)):
            if docstring.text not in seen:
                seen.add(docstring.text)
                found[chapter].append(docstring)
    return found


def _module(root: Path, name: str) -> Iterator[Docstring]:
    """Yields the docstrings of a module or of all modules in a package."""
    package = root / name
    paths = [root / f"{name}.py"] if not package.is_dir() else package.rglob("*.py")
    for path in sorted(paths, key=lambda path: path.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        if path.is_file() and not _TESTS & set(parts):
            yield from _file(path, ".".join(parts).removesuffix(".__init__"))


def _file(path: Path, module: str) -> Iterator[Docstring]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in the standard library's sources
        with tokenize.open(path) as file:  # in the encoding that the file declares
            tree = ast.parse(file.read())
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        name, node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = _shortened(ast.get_docstring(node) or "")
            if len(text.split()) >= MIN_WORDS:
                yield Docstring(module, name, text)
        for child in reversed(list(ast.iter_child_nodes(node))):
            own = getattr(child, "name", None) if isinstance(child, ast.stmt) else None
            pending.append((f"{name}.{own}".lstrip(".") if own else name, child))


def _shortened(text: str) -> str:
    """Returns the first paragraphs of a text, or the first words of a long paragraph."""
    if len(text) <= MAX_CHARACTERS:
        return text
    end = text.rfind("\n\n", 0, MAX_CHARACTERS + 1)
    if end <= 0:
        end = text.rfind(" ", 0, MAX_CHARACTERS + 1)
    return text[: end if end > 0 else MAX_CHARACTERS].rstrip()

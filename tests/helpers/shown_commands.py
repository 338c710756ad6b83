"""The commands that the documentation shows, as they would reach a shell."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "RELIABILITY.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"`((?:python -m finetune|scripts/|pip install|finetune |mkdocs |tensorboard |hf )[^`]*)`"
)
SHELLS = ("sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Command:
    """One command: where it stands, and its words after the shell has taken the quotes away."""

    page: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.page}: {shlex.join(self.words)}"


def commands():
    """Returns every command once for each page that shows it; prose without arguments is none."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        for language, body in BLOCK.findall(text):
            if language in SHELLS:
                found += [Command(name, words) for words in split(body)]
        prose = BLOCK.sub("", text)
        for code in INLINE.findall(prose):
            found += [Command(name, words) for words in split(" ".join(code.split()))]
    return list(dict.fromkeys(found))


def split(script):
    """Returns the words of each command of a script: lines, also continued ones, and && lists."""
    result = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            result.append(tuple(word for word in words[:end] if word != "…"))
            words = words[end + 1 :]
    return [words for words in result if words]


def python_blocks():
    """Returns (page, code) of each python block but whole scripts, which tests/inference/export runs."""
    return [
        (str(page.relative_to(ROOT)), body)
        for page in PAGES
        for language, body in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language == "python" and "sys.argv" not in body
    ]

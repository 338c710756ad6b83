"""Adds RELIABILITY.md, which lives beside README.md, to the site, without a second copy of it.

Links are written so that they work where the files are read on a code host; here those that cross
the border of docs/ are rewritten.
"""

from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config) -> Files:  # noqa: ANN001 - MkDocsConfig
    """Adds the page and the style sheet."""
    text = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "RELIABILITY.md", content=text.replace("](docs/", "](")))
    style = (Path(__file__).parent / "extra.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "stylesheets/extra.css", content=style))
    return files


def on_page_markdown(markdown: str, **_) -> str:  # noqa: ANN003
    """Leads links to the page above docs/ to where it is in the site."""
    return markdown.replace("](../RELIABILITY.md", "](RELIABILITY.md")

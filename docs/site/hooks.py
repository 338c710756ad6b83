"""Adds what lives elsewhere to the site, without a second copy of it; makes its search work from disk.

Links are written so that they work where the files are read on a code host; here those that cross
the border of docs/ are rewritten.
"""

from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
ASSETS = {"stylesheets/extra.css": "extra.css", "javascripts/worker.js": "worker.js"}


def on_files(files: Files, config) -> Files:  # noqa: ANN001 - MkDocsConfig
    """Adds the page of the root, the style sheet and the script."""
    text = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "RELIABILITY.md", content=text.replace("](docs/", "](")))
    for place, name in ASSETS.items():
        content = (Path(__file__).parent / name).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, **_) -> str:  # noqa: ANN003
    """Leads links to the page above docs/ to where it is in the site."""
    return markdown.replace("](../RELIABILITY.md", "](RELIABILITY.md")


def on_post_build(config, **_) -> None:  # noqa: ANN001, ANN003
    """Writes what is searched as a script too: pages from disk may load no JSON."""
    search = Path(config["site_dir"]) / "search"
    index = (search / "search_index.json").read_text(encoding="utf-8")
    (search / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")

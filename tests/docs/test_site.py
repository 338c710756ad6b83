"""The site is built with warnings as errors, and its pages fetch nothing from anywhere."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
CHROMIUM = shutil.which("chromium")
PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def build(target):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG), "-d", str(target)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    result = build(target)
    assert result.returncode == 0, result.stderr
    return target


class Fetched(HTMLParser):
    """Gathers what a browser would load by itself, in `addresses`."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.addresses += [given[key] for key in ("src", "srcset") if given.get(key)]
        if tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given["href"])


def test_every_page_is_there_and_fetches_nothing(site):
    pages = sorted(site.rglob("*.html"))
    assert {*PAGES, "RELIABILITY", "404"} == {page.stem for page in pages}
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        outside = [
            address for address in parser.addresses if re.match(r"[a-z]+:(?!image/)|//", address)
        ]
        assert not outside, page.name
        inside = [
            address.lstrip("/") for address in parser.addresses if not address.startswith("data:")
        ]
        lost = [address for address in inside if not (site / address.partition("?")[0]).exists()]
        assert not lost, page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8"))


def test_what_is_searched_holds_the_pages(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "unfreeze_depth" in index and "the loss must stay finite" in index


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_from_disk_it_is_searched_and_nothing_leaves_it(site):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        troubles = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: troubles.append(asked.url))
        page.goto((site / "index.html").as_uri())
        box = page.locator("[data-md-component=search-query]")
        box.click()
        box.press_sequentially("the loss must stay finite")
        found = page.locator(".md-search-result__item", has_text="the loss must stay finite")
        found.first.wait_for()  # results follow the keys with a delay
        assert "Troubleshooting" in found.first.inner_text()
        page.set_viewport_size({"width": 400, "height": 800})
        for name in PAGES:
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 400, name
        browser.close()
    assert [text for text in troubles if not text.startswith((site.as_uri(), "data:"))] == []


def links_of(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("name", ["README.md", "RELIABILITY.md", "docs"])
def test_links_between_files_work_where_they_are_read_as_files(name):
    path = ROOT / name
    files = sorted(path.glob("*.md")) if path.is_dir() else [path]
    found = [(file, link) for file in files for link in links_of(file)]
    for file, link in found:
        target, _, _ = link.partition("#")
        if target and not re.match(r"[a-z]+:", target):
            assert (file.parent / target).exists(), f"{file.name}: {link}"

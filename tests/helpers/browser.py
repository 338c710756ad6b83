"""Pages in Debian's Chromium, without a network."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium")
NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@contextmanager
def running_browser():
    """Starts Chromium and stops it afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def opened(browser, address, width=1200, expected=(), **given):
    """Opens a page and fails if it logs an error or requests anything from elsewhere.

    Args:
        browser: The browser that `running_browser` started.
        address: URL of the page.
        width: Width of the window in pixels.
        expected: Parts of console messages that are no failure.
        given: More arguments of Playwright's `new_context`, such as `color_scheme`.
    """
    context = browser.new_context(viewport={"width": width, "height": 800}, **given)
    page = context.new_page()
    troubles = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda asked: None if _stays(asked.url) else troubles.append(asked.url))
    page.goto(address)
    try:
        yield page
        unexpected = [text for text in troubles if not any(part in text for part in expected)]
        assert unexpected == []
    finally:
        context.close()


def _stays(url):
    return url.startswith(("file:", "data:"))

"""The page in a real browser: Debian's Chromium, without a network."""

from pathlib import Path

import pytest

from finetune.reporting.comparison.compare import Run, compare
from finetune.reporting.comparison.page import comparison_page
from finetune.reporting.report import write_report
from tests.helpers.browser import NEEDS_BROWSER, opened
from tests.helpers.records import make_run

pytestmark = NEEDS_BROWSER
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of a run with all parts and with hostile names."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "plots/mistakes").mkdir(parents=True)
    (directory / "plots/mistakes/1.png").write_bytes(PIXEL)
    names = ("cat", "<script>document.title='run'</script>", "a very long name of a class " * 5)
    page, *_ = write_report(make_run(classes=names), directory)
    return page.as_uri()


def test_names_and_numbers_are_text_even_in_pictures(browser, address):
    with opened(browser, address) as page:
        assert page.title().endswith(": resnet_mini on pets")
        text = page.inner_text("body")
        for words in ("resnet_mini", "cat", "<script>document.title=", "90.00%", "label_separator"):
            assert words in text, words
        drawn = page.locator("#picture-freeze_map svg text").all_text_contents()
        assert {"stage1", "head", "2 k", "trainable"} <= set(drawn)
        assert page.locator("figure svg").count() == 6
        assert page.evaluate("document.images[0].naturalWidth") == 1


def test_the_policy_forbids_scripts_and_requests(browser, address):
    with opened(browser, address, expected=["Content Security Policy"]) as page:
        refused = page.evaluate(
            """async () => {
              const found = [];
              document.addEventListener("securitypolicyviolation", (e) => found.push(e.effectiveDirective));
              const script = document.createElement("script");
              script.textContent = "document.title = 'run'";
              const image = document.createElement("img");
              image.src = "elsewhere.png";
              document.body.append(script, image);
              await new Promise((done) => setTimeout(done, 200));
              return [found.sort(), document.title];
            }"""
        )
        assert refused[0] == ["img-src", "script-src-elem"]
        assert refused[1].endswith(": resnet_mini on pets")


def column(page, number):
    cells = page.locator("table.sortable").first.locator(f"tbody tr > :nth-child({number})")
    return cells.all_text_contents()


def test_classes_are_sorted_by_click_and_by_key(browser, address):
    with opened(browser, address) as page:
        header = page.locator("table.sortable th", has_text="examples")
        header.locator("button").click()
        assert column(page, 5) == ["10", "20", "30"]
        assert header.get_attribute("aria-sort") == "ascending"
        header.locator("button").click()
        assert column(page, 5) == ["30", "20", "10"]
        assert header.get_attribute("aria-sort") == "descending"
        recall = page.locator("table.sortable th", has_text="recall")
        recall.locator("button").focus()
        page.keyboard.press("Enter")
        assert column(page, 3) == ["80.00%", "85.00%", "90.00%"]
        page.keyboard.press("Space")
        assert column(page, 3) == ["90.00%", "85.00%", "80.00%"]
        assert header.get_attribute("aria-sort") == "none"
        page.locator("table.sortable th", has_text="class").first.locator("button").click()
        assert [name[:5] for name in column(page, 1)] == ["<scri", "a ver", "cat"]


def test_the_config_is_filtered_to_matching_lines_and_their_parents(browser, address):
    with opened(browser, address) as page:
        page.get_by_label("Show lines that contain").fill("BATCH")
        shown = page.locator("#config-lines .line:not([hidden])").all_text_contents()
        assert shown == ["dataset:", "  batch_size: 32"]
        page.get_by_label("Show lines that contain").fill("")
        assert page.locator("#config-lines .line:not([hidden])").count() == 5


def test_the_keyboard_reaches_everything_with_a_visible_focus(browser, address):
    with opened(browser, address, width=400) as page:
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            place, outline = page.evaluate(
                """() => {
                  const at = document.activeElement;
                  return [at.tagName, getComputedStyle(at).outlineStyle];
                }"""
            )
            if place == "BODY":
                break
            assert outline != "none", place
            reached.append(place)
        assert {"A", "BUTTON", "INPUT", "SUMMARY", "DIV", "PRE"} <= set(reached)
        assert reached[0] == "A"  # skip to content


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_follows_the_theme(browser, address, width, scheme):
    with opened(browser, address, width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.evaluate(
            "[...document.querySelectorAll('figure svg')].map(e => e.clientWidth)"
        )
        assert min(widths) > 300 and max(widths) < 460  # unscaled, or the page is wide
        ink = page.evaluate(
            "getComputedStyle(document.querySelector('#picture-curves svg text')).fill"
        )
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = [sum(map(int, color[4:-1].split(","))) < 384 for color in (ink, paper)]
        assert dark == ([True, False] if scheme == "light" else [False, True])
        assert page.screenshot().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page that compares two runs."""
    runs = [Run(Path("/runs") / name, make_run()) for name in ("a", "<b>")]
    page = tmp_path_factory.mktemp("compared") / "compared.html"
    page.write_text(comparison_page(compare(runs), []), encoding="utf-8")
    return page.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_runs_side_by_side_fit_and_are_sorted(browser, compared, scheme):
    with opened(browser, compared, 400, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator("figure svg").count() == 1
        table = page.locator("table.sortable").first
        names = table.locator("tbody tr > :first-child")
        assert names.all_text_contents() == ["a", "<b>"]
        table.locator("th button").first.focus()
        page.keyboard.press("Enter")
        assert names.all_text_contents() == ["<b>", "a"]


def test_small_text_of_pictures_is_readable_at_400_pixels(browser, address):
    with opened(browser, address, width=400) as page:
        sizes = page.evaluate(
            """[...document.querySelectorAll("figure svg text")].map((text) => {
              const scale = text.ownerSVGElement.getScreenCTM().a;
              return parseFloat(getComputedStyle(text).fontSize) * scale;
            })"""
        )
        assert min(sizes) >= 7.5


def test_the_page_has_landmarks_headings_and_descriptions(browser, address):
    with opened(browser, address) as page:
        assert page.locator("h1").count() == 1
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1, landmark
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
        for image in page.get_by_role("img").all():
            assert image.get_attribute("aria-label") or image.get_attribute("alt")


def test_print_shows_everything_in_light_colors(browser, address):
    with opened(browser, address, color_scheme="dark") as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = false")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.emulate_media(media="print")
        assert page.locator("nav").is_hidden()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 39)"

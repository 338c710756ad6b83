"""No label of a picture lies on another one or leaves its picture, in a real browser."""

from pathlib import Path

import pytest

from finetune.reporting.comparison.compare import Run, compare
from finetune.reporting.comparison.page import comparison_page
from finetune.reporting.page import report_page
from finetune.reporting.plots import PICTURES, Gallery
from tests.helpers.browser import NEEDS_BROWSER, opened
from tests.helpers.crowded import crowded_run
from tests.helpers.records import make_run

pytestmark = NEEDS_BROWSER
RUNS = {
    "usual": make_run,
    "crowded": crowded_run,
    "many epochs": lambda: crowded_run(stages=6, phases=5, classes=10, epochs=40, names=("b", "s")),
    "many classes": lambda: crowded_run(stages=40, phases=3, classes=40),
    "short names": lambda: crowded_run(stages=6, phases=24, classes=3, names=("a",)),
}
# The rotated corners of the boxes of all texts; each box is shrunk vertically to the letters.
BOXES = """() => [...document.querySelectorAll("figure")].map((figure) => {
  const picture = figure.querySelector("svg"), frame = picture.getBoundingClientRect();
  const texts = [...picture.querySelectorAll("text")].map((text) => {
    const box = text.getBBox(), matrix = text.getScreenCTM();
    const high = box.height * 0.22;
    const corners = [[box.x, box.y + high], [box.x + box.width, box.y + high],
      [box.x + box.width, box.y + box.height - high], [box.x, box.y + box.height - high]];
    const size = parseFloat(getComputedStyle(text).fontSize) * picture.getScreenCTM().a;
    return {text: text.textContent, size, corners: corners.map(([x, y]) => {
      const at = new DOMPoint(x, y).matrixTransform(matrix);
      return [at.x - frame.x, at.y - frame.y];
    })};
  });
  return {name: figure.id, width: frame.width, height: frame.height, texts};
})"""


def apart(one, other):
    """Returns whether a line separates two convex boxes."""
    for box in (one, other):
        for (ax, ay), (bx, by) in zip(box, [*box[1:], box[0]], strict=True):
            across = (by - ay, ax - bx)
            spans = [
                [x * across[0] + y * across[1] for x, y in corners] for corners in (one, other)
            ]
            if max(spans[0]) <= min(spans[1]) or max(spans[1]) <= min(spans[0]):
                return True
    return False


def collisions(picture):
    texts = [text for text in picture["texts"] if text["text"].strip()]
    return [
        (one["text"], other["text"])
        for index, one in enumerate(texts)
        for other in texts[index + 1 :]
        if not apart(one["corners"], other["corners"])
    ]


def outside(picture):
    return [
        text["text"]
        for text in picture["texts"]
        for x, y in text["corners"]
        if not (-1 <= x <= picture["width"] + 1 and -1 <= y <= picture["height"] + 1)
    ]


def test_boxes_that_touch_are_found():
    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    turned = [(3, 0), (4, 1), (3, 2), (2.1, 1)]
    assert apart(square, turned) and not apart(square, [(x - 1, y) for x, y in turned])
    texts = [{"text": name, "corners": square} for name in "ab"]
    assert collisions({"texts": texts}) == [("a", "b")]
    assert outside({"texts": texts, "width": 0, "height": 9})


@pytest.fixture(scope="module", params=RUNS)
def address(request, tmp_path_factory):
    record = RUNS[request.param]()
    page = tmp_path_factory.mktemp("run") / "report.html"
    page.write_text(report_page(record, page.parent, Gallery().drawings(record)), encoding="utf-8")
    return page.as_uri()


@pytest.mark.parametrize("width", [400, 1280])
def test_labels_of_a_report_stay_apart(browser, address, width):  # noqa: F811
    with opened(browser, address, width) as page:
        pictures = page.evaluate(BOXES)
        assert len(pictures) == len(PICTURES)
        assert {
            picture["name"]: collisions(picture) for picture in pictures if collisions(picture)
        } == {}
        assert {picture["name"]: outside(picture) for picture in pictures if outside(picture)} == {}
        smallest = min(text["size"] for picture in pictures for text in picture["texts"])
        assert smallest >= 9.5
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("number", [2, 12])
def test_labels_of_a_comparison_stay_apart(browser, tmp_path, width, number):  # noqa: F811
    runs = []
    for n in range(number):
        record = make_run()
        record.config = {"seed": n, "dataset": {"path": "/a/long/path/to/the/data " + "x" * n}}
        record.overrides = [f"seed={n}", f"dataset.path=/a/long/path/to/the/data {'x' * n}"]
        runs.append(Run(Path("/runs") / str(n), record))
    path = tmp_path / "compared.html"
    path.write_text(comparison_page(compare(runs)), encoding="utf-8")
    with opened(browser, path.as_uri(), width) as page:
        (picture,) = page.evaluate(BOXES)
        assert collisions(picture) == [] and outside(picture) == []
        assert min(text["size"] for text in picture["texts"]) >= 9.5

"""A comparison as one self-contained page, for all kinds of names of runs."""

import html
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.reporting.comparison.compare import Run, compare
from finetune.reporting.comparison.page import comparison_page
from finetune.reporting.plots import overlay
from finetune.reporting.plots.canvas import drawing, svg
from tests.helpers.comparisons import words
from tests.helpers.hostile_names import NAMES
from tests.helpers.records import make_run


def run(name, worse=0.0):
    record = make_run()
    record.test["accuracy"] -= worse
    record.config["seed"] = worse
    record.history = [replace(row, loss=row.loss + worse) for row in record.history]
    return Run(Path("/runs") / name, record)


def test_the_page_has_results_curves_and_differences():
    other = run("b", 0.25)
    other.record.dataset.fingerprint = "99" * 32
    text = comparison_page(compare([run("a"), other]), ["c must be a run"])
    shown = words(text)
    for part in ("2 runs in runs", "Directory /runs", "the runs differ in data", "Left out: c must be a run",
                 "90.00%", "65.00%", "seed", "dataset.fingerprint", "99999999"):  # fmt: skip
        assert part in shown, part
    assert '<section aria-labelledby="curves">' in text and "<svg" in text
    assert text.count("<table") == 5 == text.count('class="sortable first"')
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)


def test_one_run_and_runs_before_their_first_epoch_are_shown():
    alone = run("a")
    assert "There is only one run." in words(comparison_page(compare([alone])))
    alone.record.history = []
    text = comparison_page(compare([alone, alone]))
    assert "The configs are equal." in words(text) and "<svg" not in text


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name], ids=ascii)
def test_names_are_text(name):
    text = comparison_page(compare([run(f"x{name}"), run("b", 0.1)]))
    text.encode()
    assert "<script>alert" not in text and "\x1b" not in text
    assert html.escape(NAMES[name]).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text


def test_the_best_runs_are_named_and_the_others_counted():
    names = [f"run{n}" for n in range(12)]
    records = [run(name, n / 10).record for n, name in enumerate(names)]
    shown = overlay.overlay(names[::-1], records[::-1])
    assert [line.name for line in shown.named] == names[:8]
    assert len(shown.others) == 4
    assert "run0 0.15" in overlay.words(shown) and "and 4 more" in overlay.words(shown)
    with drawing():
        drawn = svg(overlay.draw(shown))
    assert "run7" in drawn and "run8" not in drawn and "4 more" in drawn


def test_losses_that_are_not_finite_are_drawn_as_gaps_and_come_last():
    broken = run("a")
    broken.record.history = [replace(row, loss=math.nan) for row in broken.record.history]
    shown = overlay.overlay(["a", "b"], [broken.record, run("b").record])
    assert [line.name for line in shown.named] == ["b", "a"]
    with drawing():
        svg(overlay.draw(shown))


def test_no_two_named_lines_look_alike():
    assert len(set(overlay.STYLES)) == len(overlay.STYLES) == 8


def test_runs_whose_long_names_differ_in_their_middle_keep_them_apart():
    common = "experiment=a_long_name_of_one seed={} lr=0.01 dropout=0.1 mlflow=false"
    names = [common.format(seed) for seed in range(8)]
    with drawing():
        figure = overlay.draw(overlay.overlay(names, [run(name).record for name in names]))
        svg(figure)
        (legend,) = figure.legends
        shown = [text.get_text() for text in legend.get_texts()]
        box = legend.get_window_extent()
        below = min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes[1:])
    assert [" ".join(text.split("\n")) for text in shown] == names
    assert box.x1 <= figure.bbox.x1 and box.y1 <= below

"""Pictures show the record reproducibly, for all kinds of names in it."""

import math
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from finetune.reporting.palette import ROLES
from finetune.reporting.plots import (
    PICTURES,
    Gallery,
    confusion,
    curves,
    freeze_map,
    movement,
    timing,
)
from finetune.reporting.plots import reliability as reliable
from finetune.reporting.plots.canvas import inline, label
from tests.helpers.hostile_names import NAMES
from tests.helpers.records import make_record, make_run, phase, rows

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def drawn(record):
    return {drawing.name: drawing for drawing in Gallery().drawings(record)}


def test_a_whole_run_has_every_picture_and_a_new_one_none():
    assert list(drawn(make_run())) == list(PICTURES)
    empty = replace(make_record(), phases=[], seconds={}, test={})
    assert all(picture.figure(empty) is None for picture in PICTURES.values())
    assert drawn(empty) == {}


@pytest.mark.parametrize("name", PICTURES)
def test_files_are_the_same_each_time(name):
    first, second = drawn(make_run())[name], drawn(make_run())[name]
    assert first.file == second.file
    assert first.png() == second.png()
    assert first.png().startswith(b"\x89PNG")
    assert "matplotlib" not in first.file.lower().replace("matplotlib.axis", "")


def test_drawing_leaves_no_state_and_no_pyplot():
    before = dict(matplotlib.rcParams)
    had = "matplotlib.pyplot" in sys.modules
    drawn(make_run())
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had


def test_names_are_text_and_no_markup():
    names = ["$x^2$", *NAMES]
    record = make_run(classes=names)
    stages = [{**record.phases[0].stages[0], "name": name} for name in names]
    record.phases = [
        replace(phase(i, name, ["head"]), stages=stages, weight_change=dict.fromkeys(names, 0.0))
        for i, name in enumerate(names)
    ]
    record.features = [replace(record.features[0], phase=name, below={name: 0.5}) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = drawn(record)
        assert all(drawing.png() for drawing in found.values())
    for name in names:
        for picture in ("freeze_map", "weight_movement", "time"):
            assert label(name) in texts(found[picture].file)
        assert label(name, confusion.LONGEST) in texts(found["confusion"].file)
    for drawing in found.values():
        ElementTree.fromstring(drawing.inline.replace("<svg", '<svg xmlns:xlink="x"', 1))


def test_names_are_shortened_in_the_middle():
    assert label("a" * 18) == "a" * 18
    assert label("path/to/some/where/photo_0001.png") == "path/to/some…1.png"
    assert len(label("x" * 500)) == 18


def test_the_freeze_map_says_what_trains_and_where_the_cut_is():
    shown = freeze_map.freeze_map(make_run())
    assert shown.stages == ("stem", "stage1", "head")
    assert shown.phases == ("head", "top")
    assert shown.parameters[0] == ((0, 100, 0), (0, 1960, 40), (30, 0, 0))
    assert shown.parameters[1] == ((0, 100, 0), (1960, 0, 40), (30, 0, 0))
    assert shown.cuts == (freeze_map.Cut(2.0, True), freeze_map.Cut(0.5, False))
    written = texts(drawn(make_run())["freeze_map"].file)
    assert [written.count(text) for text in ("30", "2 k", "100")] == [2, 2, 2]
    for words in ("trainable", "frozen", "untrainable", "cut, features stored", "cut, not stored"):
        assert words in written
    described = "trainable in phase head: head; trainable in phase top: stage1, head"
    assert described in freeze_map.words(shown)


def test_a_partly_trainable_stage_shows_both_numbers():
    record = make_run()
    record.phases[0].stages[1]["trainable"]["parameters"] = 12
    assert {"12", "of 2 k"} <= set(texts(drawn(record)["freeze_map"].file))


def test_the_freeze_map_without_any_cut():
    record = make_run()
    record.features = []
    assert freeze_map.freeze_map(record).cuts == (None, None)
    assert not [text for text in texts(drawn(record)["freeze_map"].file) if "cut" in text]


def test_curves_have_bands_marks_and_rates():
    record = make_run()
    record.phases[1].learning_rates = {"stage1": 0.001, "head": 0.01}
    record.phases[1].best_epoch = 2
    shown = curves.curves(record)
    first, second = shown.bands
    assert (first.start, first.end, first.unfreezes) == (0, 2, False)
    assert (second.start, second.end, second.unfreezes) == (2, 4, True)
    assert second.rates == ((0.01, ("head",)), (0.001, ("stage1",)))
    assert dict(shown.points)["train"][0] == (1, 0.9, 0.9)
    assert shown.best == (4, pytest.approx(0.15))
    assert shown.kept == ((3, 0.25),)
    written = texts(drawn(record)["curves"].file)
    for words in ("training", "validation", "unfreezes", "lowest validation loss", "weights kept",
                  "head", "top", "stage1", "epochs", "loss", "accuracy", "rate"):  # fmt: skip
        assert words in written, words


def test_curves_of_one_epoch_without_a_finite_loss():
    record = replace(make_run(), phases=[phase(0, "head", ["head"], epochs=1)])
    record.history = [
        replace(row, loss=math.nan, accuracy=math.nan) for row in rows(0, "head", 0, (1.0,))
    ]
    shown = curves.curves(record)
    assert shown.best is None
    assert "not finite" in texts(drawn(record)["curves"].file)


def test_loss_has_a_logarithmic_scale_where_it_spans_much():
    record = make_run()
    assert "0.25" in texts(drawn(record)["curves"].file)
    record.history = rows(0, "head", 0, (10.0, 0.0001))
    record.phases = record.phases[:1]
    written = texts(drawn(record)["curves"].file)
    assert "0.01" in written and "0.2" not in written


def test_exact_zeros_differ_from_small_changes():
    record = make_run()
    record.phases[1].weight_change = {"stem": 0.0, "stage1": 1e-9, "head": math.inf}
    shown = movement.movement(record)
    assert shown.changes == ((0.0, 0.0, 0.25), (0.0, 1e-9, math.inf))
    written = texts(drawn(record)["weight_movement"].file)
    assert [written.count(text) for text in ("0", "<1e-4%", "25%", "new")] == [3, 1, 1, 1]
    assert "in phase top stem did not change" in movement.words(shown)
    record.phases[1].weight_change = {"stem": 0.1, "stage1": 0.1, "head": 0.1}
    assert "in phase top all stages changed" in movement.words(movement.movement(record))


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.0, "0"), (None, "–"), (math.nan, "new"), (3e-5, "0.003%"), (0.0031, "0.31%"), (0.5, "50%"),
     (4.9, "490%"), (99.0, "9900%"), (250.0, "250×"), (3e7, "3e7×")],
)  # fmt: skip
def test_changes_are_percentages(change, text):
    assert movement._text(change) == text


def test_times_add_up_and_forecasts_are_marked():
    shown = timing.timing(make_run())
    assert dict(shown.parts)["other"] == pytest.approx(20 - 4 - 2 - 9 - 1 - 0.5)
    assert sum(seconds for _, seconds in shown.parts) == pytest.approx(20)
    assert shown.phases == (("head", 3.0, 5.0), ("top", 4.0, 0.0))
    written = texts(drawn(make_run())["time"].file)
    assert "3.0 s, saves 5.0 s" in written
    assert any("forecast" in text for text in written)


def test_confusions_are_counted_by_class():
    record = make_run()
    assert confusion.most_frequent(record) == [("dog", "cat", 5, 0.25), ("cat", "dog", 3, 0.1)]
    assert {"27", "15", "5", "3"} <= set(texts(drawn(record)["confusion"].file))
    assert "42 of 50 examples on the diagonal" in confusion.words(confusion.confusion(record))


def test_too_many_classes_have_a_table_but_no_matrix():
    record = make_run(classes=[f"class {i}" for i in range(41)])
    assert confusion.confusion(record) is None
    assert confusion.most_frequent(record, 1) == [("class 1", "class 0", 5, 0.25)]
    record.dataset.classes.pop()
    assert confusion.confusion(record) is not None


def test_reliability_shows_bins_and_error():
    shown = reliable.reliability(make_run())
    assert shown.bins == ((0.55, 0.5, 10), (0.95, 1.0, 40))
    assert "calibration error 4%" in texts(drawn(make_run())["reliability"].file)


def test_the_legend_of_the_reliability_diagram_covers_no_data():
    record = make_run()
    record.test_details.reliability[0]["accuracy"] = 1.0  # a point in the upper left corner
    figure = drawn(record)["reliability"].figure
    axes, *_ = figure.axes
    assert not axes.texts
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 > axes.get_window_extent().y1


def test_many_stages_and_phases_stay_apart():
    record = make_run()
    stages = [{**record.phases[0].stages[1], "name": f"block{i}"} for i in range(14)]
    one = record.phases[0]
    record.phases = [replace(one, index=i, name=f"phase{i}", stages=stages) for i in range(15)]
    drawing = drawn(record)["freeze_map"]
    width, height = drawing.figure.get_size_inches()
    assert drawing.wide and width > 15 * 0.3 and height > 14 * 0.3
    assert f"--least:{width * 96:.0f}px" in drawing.inline
    assert not drawn(make_run())["freeze_map"].wide


def test_inline_pictures_follow_the_page():
    first = drawn(make_run())["freeze_map"]
    html = first.inline
    assert "var(--trainable)" in html and "var(--font)" in html
    assert not any(color.light in html for color in ROLES.values())
    assert "<style" not in html and "<?xml" not in html and "<metadata" not in html
    assert html.startswith('<svg role="img" aria-label="Freeze map of 3 stages: ')
    identifiers = re.findall(r' id="([^"]+)"', html)
    assert identifiers and all(identifier.startswith("freeze_map-") for identifier in identifiers)
    for reference in re.findall(r'(?:href="|url\()#([^")]+)', html):
        assert reference in identifiers


def test_words_of_inline_pictures_are_escaped():
    file = drawn(make_run())["time"].file
    assert 'aria-label="&lt;b&gt; &quot;a&quot; &amp;"' in inline(file, "time", '<b> "a" &')
    with pytest.raises(ValueError, match=r"must be what svg\(\) returned"):
        inline("<svg>", "time", "")


def test_a_picture_is_redrawn_only_if_its_content_changes():
    gallery, record = Gallery(), make_run()
    first = {drawing.name: drawing for drawing in gallery.drawings(record)}
    record.phases[1].seconds += 1
    second = {drawing.name: drawing for drawing in gallery.drawings(record)}
    assert [name for name in first if first[name] is not second[name]] == ["time"]
    record.history[0] = replace(record.history[0], loss=math.nan)
    gallery.drawings(record)
    kept = {drawing.name: drawing for drawing in gallery.drawings(record)}
    assert kept["curves"] is gallery.drawings(record, ["curves"])[0]


def test_an_invalid_window_toolkit_does_not_matter():
    script = "import os; import finetune.reporting.plots; print(os.environ['MPLBACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "MPLBACKEND": "none of these"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "none of these\n"), done.stderr

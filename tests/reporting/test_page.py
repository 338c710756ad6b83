"""The page shows the record of a run in any state, safely and without network requests."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.record.schema import FrozenProof, Interval
from finetune.reporting import summary
from finetune.reporting.class_table import class_table
from finetune.reporting.page import MOST_THUMBNAIL_BYTES, open_phases, report_page, thumbnail
from finetune.reporting.plots import PICTURES, Gallery
from finetune.reporting.remarks import most_frequent_share
from tests.helpers.hostile_names import NAMES
from tests.helpers.records import make_run

PNG = b"\x89PNG\r\n\x1a\n rest"
SMALL_PNG = PNG[:8] + bytes((0, 0, 0, 13)) + b"IHDR" + bytes((0, 0, 0, 32, 0, 0, 0, 32)) + b"rest"


def page(record, directory=Path("outputs/run")):
    return report_page(record, directory, Gallery().drawings(record))


def words(text):
    """The text of a page, on one line, without its style and script."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_completed_run_at_a_glance():
    found = {fact.name: fact for fact in summary.facts(make_run())}
    assert found["Test accuracy"].value == "90.00%"
    assert found["Test accuracy"].details[0] == "on 50 examples, loss 0.3000"
    assert found["Baseline"].value == "50.00%"  # 30 of 30 + 20 + 10
    assert "linear probe (head): validation 85.00%, finally 90.00%" in found["Baseline"].details
    assert found["Time"].value == "20.0 s"
    assert found["Proof of held weights"].value == "holds"
    assert "3 to 4 weights held in 2 phases" in found["Proof of held weights"].details[0]
    assert found["Stages never trained"].value == "1 of 2"
    assert found["Stages never trained"].details[0] == "stem"
    assert summary.notices(make_run()) == []


def test_the_page_holds_all_parts():
    text = page(make_run())
    shown = words(text)
    for part in ("resnet_mini on pets", "completed", "3 classes, 2 phases", "dog cat 5 25.0%",
                 "cat 90.00% 80.00% 85.00% 30", "pets", "ef" * 32, "train 90 examples",
                 "ImageClassifier.from_preset(directory)", '"outputs/run/model"',
                 "python -m finetune experiment=pets 'dataset.path=/data/my pets'",
                 "label_separator: null", "keras 3.15.1", "float32", "a text of some words",
                 "predicted dog (75.0%), labelled cat", "expected calibration error 4.00%"):  # fmt: skip
        assert part in shown, part
    assert [f'id="picture-{name}"' in text for name in PICTURES] == [True] * len(PICTURES)
    for heading in ("Summary", "Pictures", "Test split", "Phases", "Data", "Config"):
        assert f">{heading}</h2>" in text
    for target in re.findall(r'<a href="#([^"]+)"', text):
        assert f'id="{target}"' in text
    assert len(set(re.findall(r' id="([^"]+)"', text))) == len(re.findall(r' id="([^"]+)"', text))
    assert text.count("<table") == text.count("<caption>") and '<th scope="row">' in text
    assert (
        text.count("<svg ") == len(PICTURES) == len(re.findall(r'role="img" aria-label="\w', text))
    )


@pytest.mark.parametrize(
    ("status", "words_of_it"),
    [("running", "had not ended"), ("failed", "This run failed after 2 whole phases and 4 epochs."),
     ("interrupted", "This run was interrupted after 2")],
)  # fmt: skip
def test_an_incomplete_run_has_a_notice(status, words_of_it):
    record = replace(make_run(status), test={}, test_per_class=[], model_sha256={})
    record.test_details = replace(record.test_details, confusion=[], reliability=[], mistakes=[])
    shown = words(page(record))
    assert words_of_it in shown
    assert "python -m finetune resume outputs/run" in shown
    assert "There is no saved model yet" in shown
    assert "Validation accuracy 90.00% after 4 epochs" in shown
    assert "Test split" not in shown


def test_a_run_that_has_just_started_has_a_page():
    record = replace(make_run("running"), phases=[], features=[], test={}, seconds={}, history=[],
                     test_per_class=[], model_sha256={})  # fmt: skip
    record.test_details = replace(record.test_details, confusion=[], reliability=[], mistakes=[])
    shown = words(page(record))
    assert "Nothing has been measured yet" in shown and "0 phases had ended" in shown


def test_a_run_without_a_test_split_has_a_notice():
    record = replace(make_run(), test={}, test_per_class=[])
    assert "There is no test split" in words(page(record))
    assert most_frequent_share(record) is None
    names = [fact.name for fact in summary.facts(record)]
    assert names[:2] == ["Validation accuracy", "Baseline"]


def test_a_broken_proof_comes_first():
    record = make_run("failed")
    record.phases[1].frozen_proof = FrozenProof(3, 1, "a", "b")
    assert summary.notices(record)[0].startswith(
        "The proof fails: held weights have changed in top"
    )
    assert "BROKEN" in words(page(record))


def test_multi_label_runs_have_no_most_frequent_class():
    record = make_run()
    record.dataset.multi_label = True
    assert most_frequent_share(record) is None
    assert summary.facts(record)[0].name == "Test accuracy of decisions"
    assert "keras.ops.sigmoid" in words(page(record))


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [("preset", ("task.json", "tokenizer.json"), "keras_hub.models.TextClassifier.from_preset"),
     ("preset", ("model.keras", "image_converter.json"), "keras_hub.layers.ImageConverter"),
     ("preset", ("model.keras", "tokenizer.json"), "TextClassifierPreprocessor.from_preset"),
     ("own", ("model.keras",), "keras.saving.load_model('outputs/run/model/model.keras')")],
)  # fmt: skip
def test_the_model_is_loaded_as_it_was_saved(source, files, expected):
    record = make_run()
    record.backbone.source = source
    record.model_sha256 = dict.fromkeys(files, "0")
    shown = words(page(record))
    assert expected in shown
    assert ("of the model's FineTuner again" in shown) == (source == "own")


def test_names_are_text_and_no_markup():
    record = make_run(classes=list(NAMES))
    record.phases[0].name = record.backbone.name = "<img src=x onerror=alert(1)>"
    record.overrides = ["dataset.path=</code><script>alert(1)</script>"]
    record.config = {"dataset": {"path": "</span><b>"}, "$": "\udcff"}
    text = page(record)
    assert text.count("<script>") == 1 and "<img" not in text and "<b>" not in text
    text.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_the_top_says_which_run_it_is_when_and_where(tmp_path):
    directory = tmp_path / "outputs" / "2026-01-31" / "12-00-05"
    text = page(make_run(), directory)
    top = words(text[: text.index("<nav")])
    assert "Run 2026-01-31/12-00-05" in top
    assert "Started 31 January 2026, 12:00 UTC+01:00" in top
    assert f"Directory {directory}" in top
    assert "<title>2026-01-31/12-00-05: resnet_mini on pets</title>" in text
    older = page(replace(make_run(), started=""), directory)
    assert "Started" not in words(older)


def test_only_the_last_phase_is_open_and_the_others_are_one_line():
    text = page(make_run())
    folded = re.findall(r"<details( open)?>\s*<summary>Phase (\d)", text)
    assert folded == [("", "1"), (" open", "2")]
    counts = "trainable 2 / 30, non-trainable 6 / 2,100"
    assert f"Phase 1: head {counts}; 4 weights held, 0 changed" in words(text)


def test_a_phase_whose_proof_is_broken_is_open():
    record = make_run("failed")
    record.phases[0].frozen_proof = FrozenProof(3, 1, "a", "b")
    assert open_phases(record) == {0, 1}
    assert open_phases(replace(record, phases=[])) == set()


def test_another_monitored_metric_is_shown_by_epoch():
    record = make_run()
    assert "Validation macro_f1" not in words(page(record))
    record.phases[0].monitor, record.phases[0].monitored = "macro_f1", [0.5, None, 0.75]
    assert "Validation macro_f1 by epoch: 0.5000, –, 0.7500." in words(page(record))


def test_classes_are_counted_in_each_split():
    text = page(make_run())
    shown = words(text)
    assert "have 10 (eel) to 60 (cat) training examples, a ratio of 6 to 1." in shown
    assert "cat 60 6 dog 20 3 eel 10 1" in shown
    assert text.count('class="bar" style="--share:1.0"') == 2  # the longest of each split


def test_many_classes_are_collapsed_and_missing_counts_are_left_out():
    names = [f"class {n}" for n in range(30)]
    record = make_run(classes=names)
    assert "<summary>30 classes</summary>" in page(record)
    record.dataset.class_counts = {}
    assert "Classes of each split" not in page(record)


def test_the_sentence_about_equal_and_empty_classes():
    record = make_run()
    record.dataset.class_counts = {"train": [5, 5, 5], "test": [0, 0, 0]}
    table = class_table(record.dataset, 20)
    assert table.words == "Each of the 3 classes has 5 training examples."
    assert table.splits == ("train",)
    record.dataset.class_counts = {"train": [5, 0, 5]}
    record.dataset.multi_label = True
    assert class_table(record.dataset, 20).words == (
        "The 3 classes have 0 (dog) to 5 (cat) training examples. An example counts for each of its "
        "classes."
    )


def test_what_the_model_sees_is_shown_with_labels_and_truncation(tmp_path):
    (tmp_path / "plots/samples").mkdir(parents=True)
    (tmp_path / "plots/samples/00.png").write_bytes(SMALL_PNG)
    (tmp_path / "plots/samples/00-augmented.jpg").write_bytes(b"\xff\xd8\xff rest")
    text = page(make_run(), tmp_path)
    shown = words(text)
    assert "Training examples at 32 × 32 pixels, before their values are scaled: without" in shown
    assert 'class="thumbnail small" src="data:image/png;base64,' in text
    assert 'class="thumbnail" src="data:image/jpeg;base64,' in text
    assert "dog truncated 70 of 412 tokens are read" in shown
    assert "some ##long … and 68 more" in shown


def test_examples_whose_pictures_are_gone_are_left_out(tmp_path):
    record = make_run()
    shown = words(page(record, tmp_path))
    assert "a/2.png" not in shown and "with the first tokens that the model reads" in shown
    record.dataset.samples = record.dataset.samples[:1]
    assert "What the model sees" not in words(page(record, tmp_path))


def test_thumbnails_are_part_of_the_page(tmp_path):
    (tmp_path / "plots/mistakes").mkdir(parents=True)
    (tmp_path / "plots/mistakes/1.png").write_bytes(PNG)
    text = page(make_run(), tmp_path)
    assert 'src="data:image/png;base64,iVBORw0KGgogcmVzdA==" alt="a/1.png"' in text


def test_only_small_pngs_below_the_directory_are_thumbnails(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "outside.png").write_bytes(PNG)
    (run / "link.png").symlink_to(tmp_path / "outside.png")
    (run / "large.png").write_bytes(PNG + bytes(MOST_THUMBNAIL_BYTES))
    (run / "text.png").write_bytes(b"secret")
    (run / "good.png").write_bytes(PNG)
    for name in ("../outside.png", "link.png", "large.png", "text.png", "gone.png", "/etc/passwd"):
        assert thumbnail(run, name) is None, name
    assert thumbnail(run, "good.png") == PNG


def test_the_counts_of_each_phase_have_the_sum_that_keras_calls_non_trainable():
    shown = words(page(make_run()))
    assert "Phase 1: head trainable 2 / 30, non-trainable 6 / 2,100" in shown
    assert "untrainable non-trainable stem – – 2 / 100 – 2 / 100" in shown
    assert "total 4 / 1,990 2 / 100 2 / 40 4 / 140" in shown


def test_the_judgement_and_the_interval_of_the_accuracy_are_in_the_summary():
    record = make_run()
    record.test_interval = Interval(0.786, 0.9565, 50)
    record.remarks = ["Validation got worse <b>after</b> phase head."]
    shown = words(page(record))
    assert "95% interval 78.60% to 95.65%, n = 50" in shown
    assert "Validation got worse <b>after</b> phase head." in shown

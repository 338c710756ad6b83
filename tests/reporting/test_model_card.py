"""The model card is valid for a hub, marks unknown facts, and shows names literally."""

import dataclasses
import math
import re
from html import unescape

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.config.schema import Config
from finetune.printable import printable
from finetune.record.schema import FrozenProof, Interval
from finetune.reporting.loading_code import loading_code
from finetune.reporting.markdown import escape, fenced
from finetune.reporting.model_card import HUB_LICENCES, CardFacts, model_card
from tests.helpers.records import COUNTS, make_record, make_run

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
FACTS = CardFacts("image", "ImageClassifier", False, True, "Apache-2.0", "CC BY 4.0", "own/er")


def record_of(**dataset):
    """Returns the record of a completed run."""
    record = make_record()
    record.config = {"seed": 0, "dataset": {"path": "/home/someone/pets", "batch_size": 8}}
    record.overrides = ["dataset.path=/home/someone/pets", "+seed=1"]
    record.versions = {"finetune": "0.1.0", "keras": "3.15.1"}
    record.dataset = dataclasses.replace(
        record.dataset, name="pets", splits={"train": 3, "test": 4}, **dataset
    )
    record.phases[0].frozen_proof = FrozenProof(7, 0, "abc", "abc")
    record.test_per_class = [
        {"name": name, "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 2}
        for name in record.dataset.classes
    ]
    return record


def tables_of(text, heading):
    """Returns the tables below a heading, as Markdown is parsed: rows of cells."""
    part = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    html = PARSER.render(part)
    return [
        [
            [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)
        ]
        for table in re.findall(r"<table>(.*?)</table>", html, re.S)
    ]


def test_a_hub_can_read_the_front_matter():
    card = ModelCard(model_card(record_of(), FACTS))
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0" and "license_name" not in data
    assert data["library_name"] == "keras-hub"
    assert data["pipeline_tag"] == "image-classification"
    assert data["base_model"] == "own/er"
    assert data["datasets"] == ["pets"]
    assert data["metrics"] == ["accuracy"]
    found = {result.metric_type: result for result in card.data.eval_results}
    assert found["accuracy"].metric_value == 0.25 and found["loss"].metric_value == 1.0
    assert found["accuracy"].dataset_name == "pets" and found["accuracy"].dataset_split == "test"
    assert card.text.strip().startswith("# b on pets")


def test_unknown_facts_are_marked_and_not_guessed():
    facts = CardFacts("array", None, True)
    record = record_of()
    record.test, record.test_per_class = {}, []
    card = ModelCard(model_card(record, facts))
    data = card.data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "to-be-filled-in")
    assert data["library_name"] == "keras"
    assert not {"pipeline_tag", "base_model", "model-index", "metrics"} & data.keys()
    assert "multi-label" in data["tags"]
    assert card.text.count("to be filled in") == 5
    assert "There was no test split" in card.text


def test_a_metric_that_is_not_finite_is_left_out():
    record = record_of()
    record.test = {"loss": math.nan, "accuracy": 0.25}
    card = ModelCard(model_card(record, FACTS))
    assert [result.metric_type for result in card.data.eval_results] == ["accuracy"]
    assert "nan" not in card.content


def test_the_card_has_counts_proofs_and_metrics():
    text = model_card(record_of(), FACTS)
    (_, phase), (_, proof) = tables_of(text, "Training")
    assert phase == [
        "head", "depth(0), BatchNorm inference", "0 of 2", "head 0.1", "1 / 2", "1 / 2", "1 / 2",
        "2 / 4",
    ]  # fmt: skip
    assert proof == ["head", "7", "0", "abc", "–", "–"]
    assert ["a", "0.5000", "1.0000", "0.6667", "2"] in tables_of(text, "Metrics")[1]
    assert "python -m finetune dataset.path=pets +seed=1" in text
    assert COUNTS["total"]["parameters"] == 2 and "1 weights, 2 parameters" in text


def test_the_card_does_not_depend_on_time_place_or_a_resume():
    record, other = record_of(), record_of()
    other.seconds, other.resumed, other.peak_memory_bytes = {"total": 9.0}, [{"phase": 0}], 7
    other.phases[0].seconds = 8.0
    other.phases[0].features = {"cached": True, "seconds": 3.0}
    other.config = {"seed": 0, "dataset": {"path": "/mnt/pets", "batch_size": 8}}
    other.overrides = ["dataset.path='/mnt/pets'", "+seed=1"]
    other.device = {"names": ["gpu"], "precision": "float32"}
    assert model_card(other, FACTS) == model_card(record, FACTS)
    assert "someone" not in model_card(record, FACTS)


HOSTILE = [
    "a|b", "x\n---\nlicense: mit\n", "<script>alert(1)</script>", "**bold** [l](http://x) `c`",
    "\x1b[31m", "': {", "- # !!python/object", "$$x$$", "\udcff", "```", "_it_", "naïve – 猫",
]  # fmt: skip


def test_names_are_shown_literally():
    record = record_of(num_classes=len(HOSTILE), classes=HOSTILE)
    record.dataset.name = "x: |\n---\n# 'y'"
    record.backbone.name = "```\n--- {{ 7 * 7 }}"
    record.phases[0].name = HOSTILE[0]
    record.config = {"backbone": {"name": "```\n---"}}
    text = model_card(record, FACTS)
    card = ModelCard(text)
    assert card.data.to_dict()["license"] == "apache-2.0"
    assert card.data.eval_results[0].dataset_name == "x: |\\n---\\n# 'y'"
    assert card.data.model_name == "```\\n--- {{ 7 * 7 }} on x: |\\n---\\n# 'y'"
    assert "datasets" not in card.data.to_dict()  # not a valid name on a hub
    shown = [row[0] for row in tables_of(text, "Metrics")[1][1:]]
    assert shown == [printable(name).strip() for name in HOSTILE]
    assert {len(row) for table in tables_of(text, "Training") for row in table} == {8, 6}
    html = PARSER.render(card.text)
    plain = PARSER.render(ModelCard(model_card(record_of(), FACTS)).text)
    for tag in ("<strong>", "<em>", "<a ", "<h1>", "<h2>", "<pre>", "<code", "<table>", "<li>"):
        assert html.count(tag) == plain.count(tag), tag
    assert "<script" not in html and "\x1b" not in html
    assert "$$" not in card.text  # a formula on a hub
    text.encode()


def test_of_many_classes_the_first_are_named():
    names = [f"class {number}" for number in range(500)]
    text = model_card(record_of(num_classes=500, classes=names), FACTS)
    assert "class 99, … (labels.json lists all 500)" in text
    assert "class 100" not in text


def test_samples_in_two_splits_are_named():
    record = record_of(repeated={"train and test": 2}, skipped={"counts": {"train": 3}})
    text = model_card(record, FACTS)
    assert "Identical samples in two splits: 2 in train and test." in text
    assert "Bad samples left out: train 3." in text


def test_every_licence_of_the_catalog_has_a_name_on_the_hub():
    assert NAMED_BACKBONES
    assert {backbone.licence for backbone in NAMED_BACKBONES.values()} <= HUB_LICENCES.keys()


def test_the_card_has_the_whole_config():
    record = record_of()
    record.config = dataclasses.asdict(Config())
    record.config["backbone"] = {"path": "/home/someone/model"}
    text = model_card(record, FACTS)
    block = text.split("```yaml\n")[1].split("\n```")[0]
    assert yaml.safe_load(block) == record.config | {"backbone": {"path": "model"}}


@pytest.mark.parametrize("task", ["ImageClassifier", None])
@pytest.mark.parametrize("kind", ["image", "text", "array"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loading_code_is_valid_python(task, kind, multi_label):
    code = loading_code(kind, task, multi_label, directory='a "b"\\c')
    compile(code, "card", "exec")
    assert ("sigmoid" if multi_label else "softmax") in code
    assert "softmax" not in loading_code(kind, task, False, from_logits=False)


def test_a_fence_is_longer_than_any_in_the_text():
    assert fenced("a\n````\nb", "sh") == "`````sh\na\n````\nb\n`````"
    assert escape("_a_b_") == "\\_a_b\\_"


def test_the_counts_have_the_sum_that_keras_calls_non_trainable():
    record = record_of()
    record.phases = make_run().phases
    header, first, second = tables_of(model_card(record, FACTS), "Training")[0]
    assert header[-3:] == ["frozen", "untrainable", "non-trainable"]
    assert first[-3:] == ["4 / 2,060", "2 / 40", "6 / 2,100"]
    assert second[-3:] == ["2 / 100", "2 / 40", "4 / 140"]


def test_the_card_has_the_interval_of_the_accuracy_and_the_remarks():
    record = record_of()
    record.test_interval = Interval(0.0456, 0.6994, 4)
    record.remarks = ["The test accuracy of 25.00% is no better than …."]
    text = model_card(record, FACTS)
    assert "95% interval 4.56% to 69.94%, n = 4" in text.replace("\\", "")
    limits = text.split("\n## Limits\n")[1]
    assert "- The test accuracy of 25.00% is no better than …." in limits

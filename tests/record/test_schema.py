"""The record is strict JSON with the design's names, and files change whole or not at all."""

import json

from finetune.record.files import RecordListener, changed_files, to_json
from finetune.record.schema import (
    BackboneRecord,
    MetricRow,
)
from finetune.storage.sealed import file_digest
from tests.helpers.records import make_record


def test_the_record_has_the_names_of_schema_1():
    record = json.loads(to_json(make_record()))
    assert record["schema"] == 1
    assert {
        "status", "config", "overrides", "seed", "versions", "device", "backbone", "dataset",
        "phases", "test", "seconds", "peak_memory_bytes",
    } <= record.keys()  # fmt: skip
    phase = record["phases"][0]
    assert {
        "index", "name", "policy", "epochs_planned", "epochs_run", "stopped_by", "seconds",
        "learning_rates", "weight_counts", "stages", "frozen_proof", "features", "metrics",
    } <= phase.keys()  # fmt: skip
    assert phase["metrics"]["train"] == {"loss": None, "accuracy": 0.5}


def test_the_listener_keeps_both_files(tmp_path):
    record = make_record()
    listener = RecordListener(tmp_path / "run")
    listener.run_started(record)
    row = MetricRow(0, "head", 0, 0, "train", 0.1, 1 / 3, 0.5, 0.2)
    record.history.append(row)
    listener.epoch_ended(record, record.phases[0], [row])
    record.status = "completed"
    listener.run_ended(record)
    header, line = (tmp_path / "run/metrics.csv").read_text().splitlines()
    assert header == (
        "phase,phase_name,epoch,global_epoch,split,learning_rate,loss,accuracy,seconds"
    )
    assert line == f"0,head,0,0,train,0.1,{1 / 3!r},0.5,0.2"
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "completed"


def test_a_model_card_that_was_filled_in_is_no_damage(tmp_path):
    record = make_record()
    (tmp_path / "model").mkdir()
    for name in ("README.md", "config.json"):
        (tmp_path / "model" / name).write_text(name)
        record.model_sha256[name] = file_digest(tmp_path / "model" / name)
    (tmp_path / "metrics.csv").write_text("")
    record.metrics_sha256 = file_digest(tmp_path / "metrics.csv")
    (tmp_path / "model/README.md").write_text("license: mit")
    assert changed_files(tmp_path, record) == []
    (tmp_path / "model/config.json").write_text("{}")
    assert changed_files(tmp_path, record) == ["model/config.json"]


def test_loaded_weights_are_said_in_a_line():
    backbone = BackboneRecord("b", "bundled", "0", [])
    assert backbone.loaded is None
    for weights, line in (
        ({"loaded": 101, "total": 101, "absent": []}, "loaded 101 of 101 weights"),
        ({"loaded": 0, "total": 101, "absent": []}, "101 weights drawn at random"),
        (
            {"loaded": 1, "total": 3, "absent": ["p/kernel", "p/bias"]},
            "loaded 1 of 3 weights; not in the checkpoint and not used: p/kernel, p/bias",
        ),
    ):
        backbone.weights = weights
        assert backbone.loaded == line

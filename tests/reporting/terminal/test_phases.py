"""The terminal lines of a phase: header, changes and end."""

import copy

import pytest

from finetune.record.schema import FrozenProof, Interval
from finetune.reporting.terminal.console import VerboseConsole, show_plan
from finetune.reporting.terminal.phases import counts_line, ended, header, restored
from tests.helpers.records import make_run, phase
from tests.helpers.terminals import on_terminal, played


def test_the_first_phase_has_both_kinds_of_non_trainable_weights():
    first = make_run().phases[0]
    assert counts_line(first) == (
        "trainable 2 / 30, non-trainable 6 / 2,100 (4 frozen, 2 untrainable)"
    )


def test_a_state_without_weights_is_not_named():
    head, top = make_run().phases
    top.stages[1]["frozen"] = {"weights": 0, "parameters": 0}
    top.weight_counts["frozen"] = {"weights": 0, "parameters": 0}
    assert "frozen" not in counts_line(top, head)


def test_later_phases_name_the_changes():
    head, top = make_run().phases
    assert counts_line(top, head) == (
        "+ stage1: trainable 4 / 1,990, non-trainable 4 / 140 (2 frozen)"
    )
    assert counts_line(head, top) == (
        "− stage1: trainable 2 / 30, non-trainable 6 / 2,100 (4 frozen)"
    )
    assert counts_line(head, head) == "as before: trainable 2 / 30, non-trainable 6 / 2,100"
    other = phase(1, "stem", ["stem"])
    assert counts_line(other, head).startswith("+ stem, − head: ")


def test_many_stages_are_counted_and_not_listed():
    before, after = make_run().phases[0], copy.deepcopy(make_run().phases[0])
    for record, trains in ((before, 0), (after, 5)):
        counts = {"weights": 1, "parameters": trains}
        record.stages = [
            {"name": f"block{n}", **dict.fromkeys(("trainable", "frozen", "untrainable"), counts)}
            for n in range(12)
        ]
    assert counts_line(after, before).startswith("+ 12 stages (block0 … block11): ")


def test_the_line_of_a_usual_network_fits_80_columns():
    head, top = make_run().phases
    top.weight_counts["trainable"] = {"weights": 161, "parameters": 23_454_912}
    top.weight_counts["frozen"] = {"weights": 27, "parameters": 1_225_024}
    assert len(f"  {counts_line(top, head)}") <= 80


def test_the_rates_are_in_the_title():
    top = make_run().phases[1]
    top.learning_rates = {"head": 1e-3, "stage1": 5e-4}
    assert header(top, 2) == (
        "[bold]phase 2 of 2: top[/]  depth(1), 2 epochs, rate 0.001 … 0.0005, BatchNorm inference"
    )


@pytest.mark.parametrize(
    ("checked", "words"),
    [
        (0, "no weight was held: all could change"),
        (1, "1 weight held: 0 changed"),
        (36, "36 weights held: 0 changed"),
    ],
)
def test_a_phase_that_held_nothing_counts_no_weights(checked, words):
    record = make_run()
    record.phases[0].features = {"cached": False}
    record.phases[0].frozen_proof = FrozenProof(checked, 0, "a", "a")
    assert list(ended(record, record.phases[0])) == [words]


def test_the_restored_epoch_is_counted_as_in_the_lines_above():
    record = make_run()
    top = record.phases[1]
    top.best_epoch, top.monitor = 2, "accuracy"  # the first of its two epochs, the third of the run
    line = "restored epoch 1 of 2, which had the highest validation accuracy: 90.00%"
    assert list(ended(record, top))[-1] == restored(record, top) == line
    top.monitor = "loss"
    line = "restored epoch 1 of 2, which had the lowest validation loss: 0.1500"
    assert restored(record, top) == line


@pytest.mark.parametrize("verbose", [False, True])
def test_the_table_of_counts_is_shown_once_unless_verbose(tmp_path, monkeypatch, verbose):
    made, out = on_terminal(monkeypatch, NO_COLOR="1", TERM="dumb")
    console = VerboseConsole(file=out, width=80, highlight=False) if verbose else made
    show_plan(console, make_run())
    assert out.getvalue().count("stage   rate  trainable") == (2 if verbose else 1)
    assert "  + stage1: trainable 4 / 1,990, non-trainable 4 / 140 (2 frozen)" in out.getvalue()


def test_no_value_is_printed_in_python_syntax(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, NO_COLOR="1", TERM="dumb")
    record = make_run()
    record.backbone.preprocessing = {
        "image_size": [32, 32], "scale": 0.00392157, "mean": [0.0, 0.5], "antialias": False,
        "tokenizer": None, "special": {"start": 101},
    }  # fmt: skip
    record.phases = record.phases[:1]
    played(console, tmp_path, record)
    text = " ".join(out.getvalue().split())
    assert (
        "preprocessing: image size 32 × 32; scale 0.00392157; mean 0, 0.5; antialias no; "
        "tokenizer none; special start 101" in text
    )
    for dump in ("[3", "{'", "None", "False", "True", "('"):
        assert dump not in text


def test_the_run_ends_with_the_interval_and_the_remarks(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, NO_COLOR="1", TERM="dumb")
    record = make_run()
    record.test_interval = Interval(0.786, 0.9565, 50)
    record.remarks = ["Validation got worse after phase head."]
    record.phases = record.phases[:1]
    played(console, tmp_path, record)
    text = out.getvalue()
    assert "test accuracy 90.00% (95% interval 78.60% to 95.65%, n = 50), loss 0.3000" in text
    assert "\nValidation got worse after phase head.\n" in text


def test_jobs_of_a_sweep_with_equal_counts_show_the_table_once(tmp_path, monkeypatch):
    console, out = on_terminal(monkeypatch, NO_COLOR="1", TERM="dumb")
    for number in range(3):
        record = make_run()
        record.phases = record.phases[number // 2 :][:1]  # the third job freezes other stages
        record.phases[0].index = 0
        played(console, tmp_path, record)
    text = out.getvalue()
    assert text.count("stage   rate  trainable") == 2
    assert text.count("trainable 2 / 30, non-trainable 6 / 2,100 (4 frozen, 2 untrainable)") == 2
    assert text.count("trainable 4 / 1,990, non-trainable 4 / 140 (2 frozen, 2 untrainable)") == 1

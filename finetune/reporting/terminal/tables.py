"""Tables of stages, counts and phases, made from records."""

from rich.text import Text

from finetune.printable import printable
from finetune.record.schema import (
    STATES,
    MetricRow,
    PhaseRecord,
    RunRecord,
    count_text,
    non_trainable,
)
from finetune.reporting import numbers as written
from finetune.reporting.numbers import size
from finetune.reporting.terminal.listing import GAP, Column, Listing, number, plain, text
from finetune.reporting.terminal.phases import rates

STYLES = {"trainable": "green", "frozen": "blue", "untrainable": "dim"}
# Of the line of an epoch: the least width of each column, which 80 columns hold.
_EPOCH = {
    "epoch": 9,
    "train loss": 10,
    "accuracy": 8,
    "validation loss": 15,
    "accuracy ": 8,
    "seconds": 7,
}


def _count(count: dict[str, int], style: str = "") -> Text:
    if count["weights"] == 0:
        return Text("–", style="dim")
    return Text(count_text(count), style=style)


def counts_table(phase: PhaseRecord) -> Listing:
    """Returns the weight counts of one phase by stage: weights / parameters in each state."""
    rows = []
    for stage in phase.stages:
        rate = phase.learning_rates.get(stage["name"])
        counts = [_count(stage[state], STYLES[state]) for state in STATES]
        held = _count(non_trainable(stage))
        rows.append([stage["name"], "–" if rate is None else f"{rate:.2g}", *counts, held])
    totals = [phase.weight_counts[state] for state in STATES]
    totals.append(non_trainable(phase.weight_counts))
    rows.append([plain("total", "bold"), "", *(_count(each, "bold") for each in totals)])
    headers = ("rate", *STATES, "non-trainable")
    return Listing([text("stage"), *map(number, headers)], rows)


def plan_table(record: RunRecord) -> Listing:
    """Returns stages × phases: parameters that train of those that could, by stage and phase."""
    rows = []
    for index, stage in enumerate(record.phases[0].stages):
        cells = []
        for phase in record.phases:
            counts = phase.stages[index]
            trains, frozen = counts["trainable"]["parameters"], counts["frozen"]["parameters"]
            if trains and frozen:
                cells.append(plain(f"◐ {trains:,}", "yellow"))
            elif trains:
                cells.append(plain(f"● {trains:,}", "green"))
            else:
                cells.append(plain("○ frozen" if frozen else "–", "blue"))
        rows.append([stage["name"], *cells])
    for label, state in (("trains", "trainable"), ("frozen", "frozen"), ("untrainable",) * 2):
        counts = [phase.weight_counts[state] for phase in record.phases]
        rows.append([plain(label, "bold"), *map(_count, counts)])
    held = [non_trainable(phase.weight_counts) for phase in record.phases]
    rows.append([plain("non-trainable", "bold"), *map(_count, held)])
    return Listing([text("stage"), *(number(phase.name) for phase in record.phases)], rows)


def phases_table(record: RunRecord) -> Listing:
    """Returns one line a phase: policy, epochs, rates, BatchNorm."""
    rows = []
    for phase in record.phases:
        epochs = str(phase.epochs_planned)
        rows.append([phase.name, phase.policy, epochs, rates(phase), phase.batch_norm])
    headers = ("phase", "policy", "epochs", "learning rate", "BatchNorm")
    return Listing([number(each) if each == "epochs" else text(each) for each in headers], rows)


def features_table(record: RunRecord) -> Listing:
    """Returns one line a phase: the cut, its bytes, what storing saves and costs, and why."""
    rows = []
    for each in record.features:
        seconds = (each.saves_seconds, each.costs_seconds)
        rows.append(
            [
                each.phase,
                each.cut or "–",
                _bytes(each.bytes_per_sample),
                _bytes(each.bytes),
                *(f"{s:.1f} s" if s > 0 else "–" for s in seconds),
                plain("yes", "green") if each.stored else plain("no", "dim"),
                each.reason,
            ]
        )
    headers = ("phase", "cut", "a sample", "in all", "saves", "costs", "stored", "why")
    numbers = ("a sample", "in all", "saves", "costs")
    return Listing([number(h) if h in numbers else text(h) for h in headers], rows)


def _bytes(number: int) -> str:
    return size(number) if number else "–"


def results_table(record: RunRecord) -> Listing:
    """Returns one line a phase: epochs, parameters that trained, validation metrics, proof."""
    rows = []
    for phase in record.phases:
        validation = phase.metrics.get("validation", {})
        proof = phase.frozen_proof
        early = phase.epochs_run < phase.epochs_planned
        rows.append(
            [
                phase.name,
                f"{phase.epochs_run}/{phase.epochs_planned}" if early else str(phase.epochs_run),
                f"{phase.weight_counts['trainable']['parameters']:,}",
                written.number(validation["loss"]) if validation else "–",
                f"{validation['accuracy']:.2%}" if validation else "–",
                f"{phase.seconds:.1f}",
                "–"
                if proof is None
                else f"{proof.weights_checked}, {proof.weights_changed} changed"
                if proof.weights_checked
                else "none",
            ]
        )
    headers = ("epochs", "trained", "val loss", "val accuracy", "seconds", "held still")
    return Listing([Column(plain("phase")), *map(number, headers)], rows)


def epoch_header() -> str:
    """Returns what stands over the lines of `epoch_line`."""
    return (" " * GAP).join(f"{name.strip():>{width}}" for name, width in _EPOCH.items())


def epoch_line(phase: PhaseRecord, rows: list[MetricRow]) -> str:
    """Returns one line for an epoch, at most 80 characters unless a number is very long.

    Args:
        phase: of the epoch.
        rows: of the training and the validation split.
    """
    cells = [f"{rows[0].epoch + 1}/{phase.epochs_planned}"]
    for row in rows:
        cells += [written.number(row.loss), f"{row.accuracy:.2%}"]
    cells.append(f"{sum(row.seconds for row in rows):.1f}")
    widths = _EPOCH.values()
    return (" " * GAP).join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def more_metrics(record: RunRecord) -> str:
    """Returns the other metrics of the test split, and the classes that are recognised worst."""
    named = {
        "top_5_accuracy": "top-5 accuracy",
        "micro_f1": "micro-F1",
        "macro_f1": "macro-F1",
        "mean_average_precision": "mean average precision",
        "auroc": "AUROC",
        "expected_calibration_error": "calibration error",
    }
    shown = [f"{n} {record.test[key]:.2%}" for key, n in named.items() if key in record.test]
    others = [name for name in record.directions if name in record.test]  # of plug-ins
    shown += [f"{printable(name)} {written.number(record.test[name])}" for name in others]
    text = ", ".join(shown)
    occur = [each for each in record.test_per_class if each["support"]]
    worst = [each for each in sorted(occur, key=lambda each: each["f1"])[:3] if each["f1"] < 1]
    if not worst:
        return text
    cells = ", ".join(
        f"{printable(each['name'])} {each['f1']:.2%} of {each['support']}" for each in worst
    )
    return f"{text}\nlowest F1: {cells}"

"""Terminal tables of stages, weight counts, phases and results."""

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

_MONITOR = 10  # width of the column of the monitored metric
STYLES = {"trainable": "green", "frozen": "blue", "untrainable": "dim"}
# Least widths of the columns in the line of an epoch; together they fit into 80 columns.
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
    """Returns the counts of a phase by stage and state, in weights / parameters."""
    rows = []
    for stage in phase.stages:
        rate = phase.learning_rates.get(stage["name"])
        counts = [_count(stage[state], STYLES[state]) for state in STATES]
        held = _count(non_trainable(stage))
        rows.append([stage["name"], "–" if rate is None else f"{rate:.2g}", *counts, held])
    totals = [phase.weight_counts[state] for state in STATES]
    totals.append(non_trainable(phase.weight_counts))
    rows.append([plain("total", "bold"), "", *(_count(total, "bold") for total in totals)])
    headers = ("rate", *STATES, "non-trainable")
    return Listing([text("stage"), *map(number, headers)], rows)


def plan_table(record: RunRecord) -> Listing:
    """Returns a table of stages × phases with the number of trainable parameters."""
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
    for state in STATES:
        counts = [phase.weight_counts[state] for phase in record.phases]
        rows.append([plain(state, "bold"), *map(_count, counts)])
    held = [non_trainable(phase.weight_counts) for phase in record.phases]
    rows.append([plain("non-trainable", "bold"), *map(_count, held)])
    return Listing([text("stage"), *(number(phase.name) for phase in record.phases)], rows)


def phases_table(record: RunRecord) -> Listing:
    """Returns one row per phase with policy, epochs, rates and BatchNorm mode."""
    rows = []
    for phase in record.phases:
        epochs = str(phase.epochs_planned)
        rows.append([phase.name, phase.policy, epochs, rates(phase), phase.batch_norm])
    headers = ("phase", "policy", "epochs", "learning rate", "BatchNorm")
    return Listing([number(h) if h == "epochs" else text(h) for h in headers], rows)


def features_table(record: RunRecord) -> Listing:
    """Returns one row per phase with the cut, its size, the time it saves and costs, and the reason."""
    rows = []
    for decision in record.features:
        seconds = (decision.saves_seconds, decision.costs_seconds)
        rows.append(
            [
                decision.phase,
                decision.cut or "–",
                _bytes(decision.bytes_per_sample),
                _bytes(decision.bytes),
                *(f"{s:.1f} s" if s > 0 else "–" for s in seconds),
                plain("yes", "green") if decision.stored else plain("no", "dim"),
                decision.reason,
            ]
        )
    headers = ("phase", "cut", "per sample", "total", "saves", "costs", "stored", "reason")
    numbers = ("per sample", "total", "saves", "costs")
    return Listing([number(h) if h in numbers else text(h) for h in headers], rows)


def _bytes(number: int) -> str:
    return size(number) if number else "–"


def results_table(record: RunRecord) -> Listing:
    """Returns one row per phase with epochs, trainable parameters, validation metrics and proof."""
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
    headers = ("epochs", "trained", "val loss", "val accuracy", "seconds", "held")
    return Listing([Column(plain("phase")), *map(number, headers)], rows)


def epoch_header(phase: PhaseRecord) -> str:
    """Returns the header of the lines of `epoch_line`."""
    return (" " * GAP).join(f"{name.strip():>{width}}" for name, width in _columns(phase).items())


def epoch_line(phase: PhaseRecord, rows: list[MetricRow]) -> str:
    """Returns the line of an epoch, of at most 80 characters unless a number is very long.

    Args:
        phase: Phase of the epoch.
        rows: Metrics of the training and the validation split.
    """
    cells = [f"{rows[0].epoch + 1}/{phase.epochs_planned}"]
    for row in rows:
        cells += [written.number(row.loss), f"{row.accuracy:.2%}"]
    if phase.monitored:
        monitored = phase.monitored[-1]
        cells.append("–" if monitored is None else written.number(monitored))
    cells.append(f"{sum(row.seconds for row in rows):.1f}")
    widths = _columns(phase).values()
    return (" " * GAP).join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _columns(phase: PhaseRecord) -> dict[str, int]:
    """Returns the columns of `epoch_line` with their widths; the monitored metric is one of them."""
    if not phase.monitored:
        return _EPOCH
    name = printable(phase.monitor)
    short = name if len(name) <= _MONITOR else f"{name[: _MONITOR - 1]}…"
    *columns, last = _EPOCH.items()
    return dict([*columns, (f"{short} ", _MONITOR), last])


def more_metrics(record: RunRecord) -> str:
    """Returns the other metrics of the test split, and the classes with the lowest F1."""
    named = {
        "top_5_accuracy": "top-5 accuracy",
        "micro_f1": "micro-F1",
        "macro_f1": "macro-F1",
        "mean_average_precision": "mean average precision",
        "auroc": "AUROC",
        "expected_calibration_error": "calibration error",
    }
    shown = [f"{n} {record.test[key]:.2%}" for key, n in named.items() if key in record.test]
    others = [name for name in record.directions if name in record.test]  # metrics of plug-ins
    shown += [f"{printable(name)} {written.number(record.test[name])}" for name in others]
    text = ", ".join(shown)
    occur = [entry for entry in record.test_per_class if entry["support"]]
    worst = [entry for entry in sorted(occur, key=lambda entry: entry["f1"])[:3] if entry["f1"] < 1]
    if not worst:
        return text
    cells = ", ".join(
        f"{printable(entry['name'])} {entry['f1']:.2%} of {entry['support']}" for entry in worst
    )
    return f"{text}\nlowest F1: {cells}"

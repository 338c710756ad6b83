"""Tables of stages, counts and phases, made from records."""

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from finetune.printable import printable
from finetune.record import PhaseRecord, RunRecord

STATES = ("trainable", "frozen", "untrainable")
STYLES = {"trainable": "green", "frozen": "blue", "untrainable": "dim"}


def _plain(text: object, style: str = "") -> Text:
    """Returns text that is data: neither markup nor control characters in it are obeyed."""
    return Text(printable(text), style=style)


def _count(count: dict[str, int], style: str = "") -> Text:
    if count["weights"] == 0:
        return Text("–", style="dim")
    return Text(f"{count['weights']} / {count['parameters']:,}", style=style)


def counts_table(phase: PhaseRecord) -> Table:
    """Returns the weight counts of one phase by stage: weights / parameters in each state."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("stage")
    table.add_column("rate", justify="right")
    for state in STATES:
        table.add_column(state, justify="right")
    for stage in phase.stages:
        rate = phase.learning_rates.get(stage["name"])
        table.add_row(
            _plain(stage["name"]),
            "–" if rate is None else f"{rate:.2g}",
            *(_count(stage[state], STYLES[state]) for state in STATES),
        )
    table.add_row(
        _plain("total", "bold"), "", *(_count(phase.weight_counts[s], "bold") for s in STATES)
    )
    return table


def plan_table(record: RunRecord) -> Table:
    """Returns stages × phases: parameters that train of those that could, by stage and phase."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for phase in record.phases:
        table.add_column(_plain(phase.name), justify="right")
    for index, stage in enumerate(record.phases[0].stages):
        cells = []
        for phase in record.phases:
            counts = phase.stages[index]
            trains, frozen = counts["trainable"]["parameters"], counts["frozen"]["parameters"]
            if trains and frozen:
                cells.append(_plain(f"◐ {trains:,}", "yellow"))
            elif trains:
                cells.append(_plain(f"● {trains:,}", "green"))
            else:
                cells.append(_plain("○ frozen" if frozen else "–", "blue"))
        table.add_row(_plain(stage["name"]), *cells)
    for label, state in (("trains", "trainable"), ("frozen", "frozen"), ("untrainable",) * 2):
        counts = [phase.weight_counts[state] for phase in record.phases]
        table.add_row(_plain(label, "bold"), *(_count(each) for each in counts))
    return table


def phases_table(record: RunRecord) -> Table:
    """Returns one line a phase: policy, epochs, rates, BatchNorm."""
    table = Table(box=None, pad_edge=False)
    for column in ("phase", "policy", "epochs", "learning rate", "BatchNorm"):
        table.add_column(column)
    for phase in record.phases:
        rates = sorted(phase.learning_rates.values())
        shown = f"{rates[-1]:.2g}" + (f" … {rates[0]:.2g}" if rates[0] != rates[-1] else "")
        table.add_row(
            _plain(phase.name),
            _plain(phase.policy),
            str(phase.epochs_planned),
            shown,
            phase.batch_norm,
        )
    return table


def features_table(record: RunRecord) -> Table:
    """Returns one line a phase: the cut, its bytes, what storing saves and costs, and why."""
    table = Table(box=None, pad_edge=False)
    for column in ("phase", "cut", "a sample", "in all", "saves", "costs", "stored", "why"):
        right = column in ("a sample", "in all", "saves", "costs")
        table.add_column(column, justify="right" if right else "left")
    for each in record.features:
        seconds = (each.saves_seconds, each.costs_seconds)
        table.add_row(
            _plain(each.phase),
            _plain(each.cut or "–"),
            _bytes(each.bytes_per_sample),
            _bytes(each.bytes),
            *(f"{s:.1f} s" if s > 0 else "–" for s in seconds),
            _plain("yes", "green") if each.stored else _plain("no", "dim"),
            _plain(each.reason),
        )
    return table


def _bytes(number: int) -> str:
    return decimal(number) if number else "–"


def results_table(record: RunRecord) -> Table:
    """Returns one line a phase: epochs, parameters that trained, validation metrics, proof."""
    table = Table(box=None, pad_edge=False)
    table.add_column("phase")
    for column in ("epochs", "trained", "val loss", "val accuracy", "seconds", "held still"):
        table.add_column(column, justify="right")
    for phase in record.phases:
        validation = phase.metrics.get("validation", {})
        proof = phase.frozen_proof
        held = "–" if proof is None else f"{proof.weights_checked}, {proof.weights_changed} changed"
        table.add_row(
            _plain(phase.name),
            str(phase.epochs_run),
            f"{phase.weight_counts['trainable']['parameters']:,}",
            f"{validation['loss']:.4f}" if validation else "–",
            f"{validation['accuracy']:.2%}" if validation else "–",
            f"{phase.seconds:.1f}",
            held,
        )
    return table


def more_metrics(record: RunRecord) -> str:
    """Returns the other metrics of the test split, and the classes that are recognised worst."""
    named = {
        "top_5_accuracy": "top-5 accuracy",
        "micro_f1": "micro-F1",
        "macro_f1": "macro-F1",
        "mean_average_precision": "mean average precision",
        "expected_calibration_error": "calibration error",
    }
    text = ", ".join(
        f"{n} {record.test[key]:.2%}" for key, n in named.items() if key in record.test
    )
    occur = [each for each in record.test_per_class if each["support"]]
    worst = [each for each in sorted(occur, key=lambda each: each["f1"])[:3] if each["f1"] < 1]
    if not worst:
        return text
    cells = ", ".join(
        f"{printable(each['name'])} {each['f1']:.2%} of {each['support']}" for each in worst
    )
    return f"{text}\nlowest F1: {cells}"

"""The result of an evaluation as tables, JSON or CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from finetune.config import plugins
from finetune.printable import printable
from finetune.record.files import to_values
from finetune.record.schema import Interval
from finetune.reporting.exchange import csv_text, json_text
from finetune.reporting.numbers import number
from finetune.reporting.remarks import interval_text
from finetune.reporting.terminal import listing
from finetune.reporting.terminal.listing import Listing

_CLASS_KEYS = ("precision", "recall", "f1", "support")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a split.

    Args:
        run: Run directory.
        dataset: Name of the dataset.
        split: Name of the split: train, validation or test; None for all examples.
        examples: Number of examples that were evaluated.
        left_out: Number of examples that were left out because they are bad.
        trained_on: Number of examples that are, by their content, in the run's training split; None
            if the run did not record them.
        data_of_the_run: Whether the data are those of the run; None if the run read other files.
        metrics: Metrics over all examples by name.
        interval: Confidence interval of the accuracy; None for a multi-label model.
        per_class: Name, precision, recall, f1 and support of each class of the model.
    """

    run: str
    dataset: str
    split: str | None
    examples: int
    left_out: int
    trained_on: int | None
    data_of_the_run: bool | None
    metrics: dict[str, float]
    interval: Interval | None
    per_class: list[dict[str, Any]]


def as_json(evaluation: Evaluation) -> str:
    """Returns one object; metrics that are not finite are null."""
    return json_text(to_values(evaluation), indent=2) + "\n"


def as_csv(evaluation: Evaluation, to_terminal: bool) -> str:
    """Returns one row per metric of the split, with an empty class, and per metric of each class.

    Args:
        evaluation: Result to write.
        to_terminal: Whether the text goes to a terminal. Control characters are then escaped.
    """
    whole = [["", name, value] for name, value in evaluation.metrics.items()]
    classes = [
        [entry["name"], key, entry[key]] for entry in evaluation.per_class for key in _CLASS_KEYS
    ]
    return csv_text([["class", "metric", "value"], *whole, *classes], to_terminal)


def show(evaluation: Evaluation, console: Console) -> None:
    """Prints the data that were evaluated, the metrics, and one line per class."""
    for line in _header(evaluation):
        console.print(line, markup=False, emoji=False, soft_wrap=True)
    console.print()
    console.print(_metrics(evaluation.metrics))
    if evaluation.interval is not None:
        console.print(f"accuracy: {interval_text(evaluation.interval)}", soft_wrap=True)
    console.print()
    console.print(_classes(evaluation.per_class))


def _header(evaluation: Evaluation) -> list[str]:
    which = "all examples" if evaluation.split is None else f"split {evaluation.split}"
    same = {
        True: ", the data of the run",
        False: ", not the data of the run: they have changed since",
        None: "",
    }[evaluation.data_of_the_run]
    lines = [
        f"{printable(evaluation.run)} on {printable(evaluation.dataset)}, {which}: "
        f"{evaluation.examples:,}{same}"
    ]
    if evaluation.left_out:
        lines.append(f"bad examples left out: {evaluation.left_out}")
    return lines


def _metrics(metrics: dict[str, float]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in metrics.items():
        share = name != "loss" and plugins.is_own("metrics", name)
        shown = f"{value:.2%}" if share else number(value)
        table.add_row(name.replace("_", " "), shown)
    return table


def _classes(per_class: Sequence[dict[str, Any]]) -> Listing:
    rows = []
    for entry in per_class:
        cells = [f"{entry[key]:.2%}" for key in _CLASS_KEYS[:-1]] if entry["support"] else ["–"] * 3
        rows.append([entry["name"], *cells, f"{entry['support']:,}"])
    return Listing([listing.text("class"), *map(listing.number, _CLASS_KEYS)], rows)

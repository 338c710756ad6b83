"""The metrics of an evaluation as text: tables for people, JSON, or CSV."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune.config import plugins
from finetune.printable import printable
from finetune.record.files import to_values
from finetune.record.schema import Interval
from finetune.reporting.numbers import number
from finetune.reporting.remarks import interval_text

_CLASS_KEYS = ("precision", "recall", "f1", "support")


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split.

    Args:
        run: the run directory.
        dataset: name of the data.
        split: train, validation or test; None: all that there is.
        examples: how many were measured.
        left_out: how many were bad.
        trained_on: how many of them the run was trained on, by their content; None: not known.
        data_of_the_run: whether these are the data that the run had; None: it had no such files.
        metrics: of all examples.
        interval: of the accuracy; None with several labels an example.
        per_class: name, precision, recall, f1 and support of each class of the model.
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
    """Returns one object; a metric that is not finite is null."""
    values = to_values(evaluation)
    text = json.dumps(values, indent=2, ensure_ascii=False)
    shown = text.replace("\n", "")
    return f"{text if shown.isprintable() else json.dumps(values, indent=2)}\n"


def as_csv(evaluation: Evaluation, to_terminal: bool) -> str:
    """Returns a row for each metric, of all examples (no class) and of each class.

    Args:
        evaluation: what was measured.
        to_terminal: whether a terminal reads it, which must not obey what is in a name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "metric", "value"])
    writer.writerows(["", name, value] for name, value in evaluation.metrics.items())
    for each in evaluation.per_class:
        name = printable(each["name"]) if to_terminal else each["name"]
        writer.writerows([name, key, each[key]] for key in _CLASS_KEYS)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def show(evaluation: Evaluation, console: Console) -> None:
    """Prints what was measured, its metrics, and one line a class."""
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
        False: ", not the data of the run: something in them is not as it was",
        None: "",
    }[evaluation.data_of_the_run]
    lines = [
        f"{printable(evaluation.run)} on {printable(evaluation.dataset)}, {which}: "
        f"{evaluation.examples:,}{same}"
    ]
    if evaluation.left_out:
        lines.append(f"left out, because bad: {evaluation.left_out}")
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


def _classes(per_class: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for key in _CLASS_KEYS:
        table.add_column(key, justify="right")
    for each in per_class:
        cells = [f"{each[key]:.2%}" for key in _CLASS_KEYS[:-1]] if each["support"] else ["–"] * 3
        table.add_row(Text(printable(each["name"])), *cells, f"{each['support']:,}")
    return table

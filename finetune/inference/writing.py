"""Predictions as text: aligned for people, a JSON array, JSON Lines, or CSV."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from finetune.inference.examples import Prediction
from finetune.printable import printable

FORMATS = ("table", "json", "jsonl", "csv")
TOP = 3  # labels that are shown of an example, where it has one
OVER = 0.5  # probability above which an example of several labels has one
_LONGEST_TEXT = 40  # characters of a text in a line for people


class Writer(Protocol):
    """What makes text of predictions."""

    def header(self) -> str:
        """Returns what comes before the first prediction; may be empty."""
        ...

    def lines(self, predictions: Sequence[Prediction]) -> str:
        """Returns the lines of some predictions, line breaks included."""
        ...

    def footer(self) -> str:
        """Returns what comes after the last prediction; may be empty."""
        ...


def make_writer(
    output_format: str, classes: Sequence[str], multi_label: bool, top_k: int, to_terminal: bool
) -> Writer:
    """Returns what writes in one of `FORMATS`.

    Args:
        output_format: ``table`` writes one line per example, its labels in descending order of
            probability; ``json`` writes one array of objects, ``jsonl`` one object per line, and
            ``csv`` one row per example.
        classes: Label names in the order of the probabilities.
        multi_label: Whether an example may have any number of labels.
        top_k: Number of labels to show for each example, 1..classes.
        to_terminal: Whether the output goes to a terminal. Control characters are then escaped.
    """
    chosen = _Labels(classes, multi_label, top_k)
    if output_format in ("json", "jsonl"):
        return _Json(chosen, array=output_format == "json")
    return _Csv(chosen, to_terminal) if output_format == "csv" else _Table(chosen)


class _Labels:
    """Which labels are shown of an example."""

    def __init__(self, classes: Sequence[str], multi_label: bool, top_k: int) -> None:
        self.multi_label, self.top_k = multi_label, top_k
        self._classes = list(classes)

    def top(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Returns labels and probabilities, the most probable first."""
        values = prediction.probabilities
        order = np.argsort(-values, kind="stable")[: self.top_k].tolist()
        return [(self._classes[index], float(values[index])) for index in order]

    def over(self, prediction: Prediction) -> list[str]:
        """Returns the labels of an example that may have several, most probable first."""
        values = prediction.probabilities
        order = np.argsort(-values, kind="stable").tolist()
        return [self._classes[index] for index in order if values[index] > OVER]


class _Table:
    def __init__(self, labels: _Labels) -> None:
        self._labels = labels
        self._widths: list[int] = []

    def header(self) -> str:
        return ""

    def lines(self, predictions: Sequence[Prediction]) -> str:
        rows = [self._cells(each) for each in predictions]
        longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if not self._widths:
            self._widths = longest
        self._widths = [max(pair) for pair in zip(self._widths, longest, strict=True)]
        return "".join(f"{self._line(row)}\n" for row in rows)

    def footer(self) -> str:
        return ""

    def _line(self, cells: Sequence[str]) -> str:
        pairs = zip(cells, self._widths, strict=True)
        return "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()

    def _cells(self, prediction: Prediction) -> list[str]:
        cells = [printable(prediction.source)]
        if prediction.text is not None:
            text = printable(prediction.text)
            cells.append(text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…")
        for label, value in self._labels.top(prediction):
            mark = ("* " if value > OVER else "  ") if self._labels.multi_label else ""
            cells.append(f"{mark}{printable(label)} {value:.2%}")
        return cells


class _Json:
    def __init__(self, labels: _Labels, array: bool) -> None:
        self._labels = labels
        self._array = array
        self._begun = False

    def header(self) -> str:
        return "[" if self._array else ""

    def lines(self, predictions: Sequence[Prediction]) -> str:
        lines = [self._line(each) for each in predictions]
        if not lines:
            return ""
        if not self._array:
            return "".join(f"{line}\n" for line in lines)
        before = ",\n" if self._begun else "\n"
        self._begun = True
        return before + ",\n".join(lines)

    def footer(self) -> str:
        return "\n]\n" if self._array else ""

    def _line(self, prediction: Prediction) -> str:
        top = self._labels.top(prediction)
        values: dict[str, Any] = {"source": prediction.source}
        if prediction.text is not None:
            values["text"] = prediction.text
        if self._labels.multi_label:
            values["labels"] = self._labels.over(prediction)
        else:
            values["label"], values["probability"] = top[0]
        values["top"] = [{"label": label, "probability": value} for label, value in top]
        text = json.dumps(values, ensure_ascii=False)
        # Half a character, or what a terminal would obey, is written as an escape.
        return text if text.isprintable() else json.dumps(values)


class _Csv:
    def __init__(self, labels: _Labels, to_terminal: bool) -> None:
        self._labels = labels
        self._shown = printable if to_terminal else _whole

    def header(self) -> str:
        columns = ["source", *(["labels"] if self._labels.multi_label else [])]
        for place in range(1, self._labels.top_k + 1):
            end = "" if place == 1 else f"_{place}"
            columns += [f"label{end}", f"probability{end}"]
        return _row(columns)

    def lines(self, predictions: Sequence[Prediction]) -> str:
        return "".join(_row(self._cells(each)) for each in predictions)

    def footer(self) -> str:
        return ""

    def _cells(self, prediction: Prediction) -> list[Any]:
        cells: list[Any] = [self._shown(prediction.source)]
        if self._labels.multi_label:
            cells.append("|".join(map(self._shown, self._labels.over(prediction))))
        for label, value in self._labels.top(prediction):
            cells += [self._shown(label), value]
        return cells


def _row(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _whole(name: str) -> str:
    """Returns a name as it is, but for bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()

"""Predictions as text: an aligned table, a JSON array, JSON Lines, or CSV."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.inference.examples import Prediction
from finetune.printable import printable
from finetune.reporting.exchange import csv_text, json_text

FORMATS = ("table", "json", "jsonl", "csv")
TOP = 3  # labels shown per example, unless the model is multi-label
OVER = 0.5  # probability above which a multi-label model assigns a label
_LONGEST_TEXT = 40  # characters of a text in the table


class Writer:
    """Base class of the formats: it selects the labels and writes no header and no footer."""

    def __init__(self, classes: Sequence[str], multi_label: bool, top_k: int) -> None:
        self.multi_label, self.top_k = multi_label, top_k
        self._classes = list(classes)

    def header(self) -> str:
        """Returns the text before the first prediction."""
        return ""

    def lines(self, predictions: Sequence[Prediction]) -> str:
        """Returns the lines of some predictions, with line breaks."""
        raise NotImplementedError

    def footer(self) -> str:
        """Returns the text after the last prediction."""
        return ""

    def top(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Returns the most probable labels with their probabilities, in descending order."""
        return self._ranked(prediction)[: self.top_k]

    def assigned(self, prediction: Prediction) -> list[str]:
        """Returns the labels that a multi-label model assigns, in descending order of probability."""
        return [label for label, value in self._ranked(prediction) if value > OVER]

    def _ranked(self, prediction: Prediction) -> list[tuple[str, float]]:
        values = prediction.probabilities
        order = np.argsort(-values, kind="stable").tolist()
        return [(self._classes[index], float(values[index])) for index in order]


def make_writer(
    output_format: str, classes: Sequence[str], multi_label: bool, top_k: int, to_terminal: bool
) -> Writer:
    """Returns the writer of one of `FORMATS`.

    Args:
        output_format: ``table`` writes one line per example, its labels in descending order of
            probability; ``json`` writes one array of objects, ``jsonl`` one object per line, and
            ``csv`` one row per example.
        classes: Label names in the order of the probabilities.
        multi_label: Whether an example may have any number of labels.
        top_k: Number of labels to show for each example, 1..classes.
        to_terminal: Whether the output goes to a terminal. Control characters are then escaped.
    """
    labels = (classes, multi_label, top_k)
    if output_format in ("json", "jsonl"):
        return _Json(*labels, array=output_format == "json")
    return _Csv(*labels, to_terminal=to_terminal) if output_format == "csv" else _Table(*labels)


class _Table(Writer):
    _widths: Sequence[int] = ()

    def lines(self, predictions: Sequence[Prediction]) -> str:
        rows = [self._cells(prediction) for prediction in predictions]
        if not rows:
            return ""
        longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
        self._widths = [max(pair) for pair in zip(self._widths or longest, longest, strict=True)]
        return "".join(f"{self._line(row)}\n" for row in rows)

    def _line(self, cells: Sequence[str]) -> str:
        pairs = zip(cells, self._widths, strict=True)
        return "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()

    def _cells(self, prediction: Prediction) -> list[str]:
        cells = [printable(prediction.source)]
        if prediction.text is not None:
            text = printable(prediction.text)
            cells.append(text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…")
        for label, value in self.top(prediction):
            mark = ("* " if value > OVER else "  ") if self.multi_label else ""
            cells.append(f"{mark}{printable(label)} {value:.2%}")
        return cells


class _Json(Writer):
    def __init__(
        self, classes: Sequence[str], multi_label: bool, top_k: int, *, array: bool
    ) -> None:
        super().__init__(classes, multi_label, top_k)
        self._array, self._started = array, False

    def header(self) -> str:
        return "[" if self._array else ""

    def lines(self, predictions: Sequence[Prediction]) -> str:
        lines = [self._line(prediction) for prediction in predictions]
        if not lines:
            return ""
        if not self._array:
            return "".join(f"{line}\n" for line in lines)
        before = ",\n" if self._started else "\n"
        self._started = True
        return before + ",\n".join(lines)

    def footer(self) -> str:
        return "\n]\n" if self._array else ""

    def _line(self, prediction: Prediction) -> str:
        top = self.top(prediction)
        values: dict[str, Any] = {"source": prediction.source}
        if prediction.text is not None:
            values["text"] = prediction.text
        if self.multi_label:
            values["labels"] = self.assigned(prediction)
        else:
            values["label"], values["probability"] = top[0]
        values["top"] = [{"label": label, "probability": value} for label, value in top]
        return json_text(values)


class _Csv(Writer):
    def __init__(
        self, classes: Sequence[str], multi_label: bool, top_k: int, *, to_terminal: bool
    ) -> None:
        super().__init__(classes, multi_label, top_k)
        self._to_terminal = to_terminal

    def header(self) -> str:
        columns = ["source", *(["labels"] if self.multi_label else [])]
        for place in range(1, self.top_k + 1):
            end = "" if place == 1 else f"_{place}"
            columns += [f"label{end}", f"probability{end}"]
        return csv_text([columns])

    def lines(self, predictions: Sequence[Prediction]) -> str:
        return csv_text(map(self._cells, predictions), self._to_terminal)

    def _cells(self, prediction: Prediction) -> list[Any]:
        labels = ["|".join(self.assigned(prediction))] if self.multi_label else []
        top = [cell for pair in self.top(prediction) for cell in pair]
        return [prediction.source, *labels, *top]

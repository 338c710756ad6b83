"""Tables that fit: text folds, numbers never do; columns that have no room go below the others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from finetune.printable import printable

GAP = 2  # characters between two columns
_TEXT = 12  # a column of text is folded to no less, while other columns have room
_HEADER = 12  # the header over a column of numbers is folded to no less


def plain(text: object, style: str = "") -> Text:
    """Returns text that is data: neither markup nor control characters in it are obeyed."""
    return Text(printable(text), style=style)


@dataclass(frozen=True)
class Column:
    """A column by its header; `number` is aligned to the right and never folded."""

    header: Text
    number: bool = False


def text(header: str) -> Column:
    """Returns a column of text."""
    return Column(plain(header))


def number(header: str) -> Column:
    """Returns a column of numbers."""
    return Column(plain(header), number=True)


class Listing:
    """Rows and columns for any width; the first column names the row.

    Args:
        columns: the first one is repeated where the others go below each other.
        rows: one cell a column; a string is data.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Text | str]]) -> None:
        self._columns = list(columns)
        self._rows = [
            [cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields one table, or several below each other where the width does not hold it."""
        least = [self._least(index) for index in range(len(self._columns))]
        for place, group in enumerate(_groups(least, options.max_width)):
            if place:
                yield Text()
            yield self._table(group, options.max_width)

    def _natural(self, index: int) -> int:
        cells = [row[index] for row in self._rows]
        return max(cell_len(each.plain) for each in (self._columns[index].header, *cells))

    def _least(self, index: int) -> int:
        """Returns the width below which a column is not folded while there is another way."""
        column = self._columns[index]
        if not column.number:
            return min(self._natural(index), _TEXT)
        header = min(cell_len(column.header.plain), _HEADER)
        return max(header, *(cell_len(row[index].plain) for row in self._rows), 1)

    def _table(self, group: Sequence[int], width: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for index, given in zip(group, self._widths(group, width), strict=True):
            column = self._columns[index]
            justify = "right" if column.number else "left"
            table.add_column(column.header, justify=justify, overflow="fold", width=given)
        for row in self._rows:
            table.add_row(*(row[index] for index in group))
        return table

    def _widths(self, group: Sequence[int], width: int) -> list[int]:
        """Takes what is too much from the widest columns of text first, then from any."""
        given = [self._natural(index) for index in group]
        room = max(width - GAP * (len(group) - 1), len(group))
        for least in ([self._least(index) for index in group], [1] * len(group)):
            while sum(given) > room:
                able = [i for i in range(len(group)) if given[i] > least[i]]
                if not able:
                    break
                given[max(able, key=lambda i: given[i])] -= 1
        return given


def _groups(least: Sequence[int], width: int) -> list[list[int]]:
    """Returns the columns of each table; each has the first column, and as many as fit."""
    groups = [[0]]
    used = least[0]
    for index in range(1, len(least)):
        if used + GAP + least[index] > width and len(groups[-1]) > 1:
            groups.append([0])
            used = least[0]
        groups[-1].append(index)
        used += GAP + least[index]
    return groups

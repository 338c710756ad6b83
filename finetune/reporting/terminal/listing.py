"""Tables for any width: text wraps, numbers do not, and surplus columns move to another table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from finetune.printable import printable

GAP = 2  # characters between two columns
_TEXT = 12  # least width of a column of text while other columns can shrink
_HEADER = 12  # least width of the header of a column of numbers


def plain(text: object, style: str = "") -> Text:
    """Returns data as text, without interpreting markup or control characters in it."""
    return Text(printable(text), style=style)


@dataclass(frozen=True)
class Column:
    """A column with its header; a column of numbers is right-aligned and never wraps."""

    header: Text
    number: bool = False


def text(header: str) -> Column:
    """Returns a column of text."""
    return Column(plain(header))


def number(header: str) -> Column:
    """Returns a column of numbers."""
    return Column(plain(header), number=True)


class Listing:
    """A table for any width, whose first column names the row.

    Args:
        columns: Columns of the table. If they do not fit beside each other, they are split over
            tables that each start with the first column.
        rows: Rows with one cell per column; a string is taken as data.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Text | str]]) -> None:
        self._columns = list(columns)
        self._rows = [
            [cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields one table, or one below the other if the width cannot hold all columns."""
        least = [self._least(index) for index in range(len(self._columns))]
        for place, group in enumerate(_groups(least, options.max_width)):
            if place:
                yield Text()
            yield self._table(group, options.max_width)

    def _natural(self, index: int) -> int:
        cells = [self._columns[index].header, *(row[index] for row in self._rows)]
        return max(cell_len(cell.plain) for cell in cells)

    def _least(self, index: int) -> int:
        """Returns the width below which a column shrinks only as a last resort."""
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
        """Returns the widths of columns after shrinking the widest, those of text first."""
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
    """Returns the columns of each table: the first column and as many others as fit."""
    groups = [[0]]
    used = least[0]
    for index in range(1, len(least)):
        if used + GAP + least[index] > width and len(groups[-1]) > 1:
            groups.append([0])
            used = least[0]
        groups[-1].append(index)
        used += GAP + least[index]
    return groups

"""Text that is data, on its way to a terminal or a log: one line that is shown and not obeyed."""

import logging
import unicodedata

_JOINERS = "\u200c\u200d"  # scripts and emoji need them; they move nothing


def printable(text: object) -> str:
    r"""Returns text on one line, with what a terminal would obey or hide written as an escape.

    That is control characters (ESC, BEL, line breaks), those that turn the direction of writing,
    other invisible ones, and bytes of file names that are no text. Letters of every script stay.

    >>> printable("\x1b[31mcat\n" + chr(0xDCFF))
    '\\x1b[31mcat\\n\\udcff'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        each if _harmless(each) else each.encode("unicode_escape").decode("ascii") for each in shown
    )


def _harmless(character: str) -> bool:
    return (
        character.isprintable()
        or character in _JOINERS
        or unicodedata.category(character) == "Zs"  # a space, however wide
    )


class LogFormatter(logging.Formatter):
    """Writes each message on one line; a traceback below it stays as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        record.message = printable(record.message)
        return super().formatMessage(record)

"""Makes text from data safe for a terminal or a log: one line without control characters."""

import logging
import unicodedata

_JOINERS = "\u200c\u200d"  # scripts and emoji need them; they move nothing


def printable(text: object) -> str:
    r"""Returns text on one line, in which characters that a terminal obeys or hides are escaped.

    These are control characters (ESC, BEL, line breaks), characters that change the direction of
    writing, other invisible ones, and bytes of file names that are not valid text. Letters of every
    script stay as they are.

    >>> printable("\x1b[31mcat\n" + chr(0xDCFF))
    '\\x1b[31mcat\\n\\udcff'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        character if _harmless(character) else character.encode("unicode_escape").decode("ascii")
        for character in shown
    )


def _harmless(character: str) -> bool:
    return (
        character.isprintable()
        or character in _JOINERS
        or unicodedata.category(character) == "Zs"  # a space, however wide
    )


class LogFormatter(logging.Formatter):
    """Writes every message on one line; a traceback below it is not changed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        record.message = printable(record.message)
        return super().formatMessage(record)

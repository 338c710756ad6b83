"""Readable names and start times of runs."""

import re
from datetime import datetime
from pathlib import Path

_NUMBERS = re.compile(r"[\d_.:-]+")  # a date, a time, or the number of a job
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def run_name(directory: Path) -> str:
    """Returns the last parts of a path, which distinguish a run from others.

    >>> run_name(Path("/home/me/runs/first try"))
    'first try'
    >>> run_name(Path("/home/me/outputs/2026-01-31/12-00-00"))
    '2026-01-31/12-00-00'
    >>> run_name(Path("/home/me/sweep/3"))
    'sweep/3'
    """
    parts = directory.absolute().parts[1:]
    first = len(parts)
    while first > 0 and _NUMBERS.fullmatch(parts[first - 1]):
        first -= 1
        if _DATE.match(parts[first]):
            return "/".join(parts[first:])
    return "/".join(parts[max(0, first - 1) :])


def when(started: str) -> str | None:
    """Returns an ISO 8601 time in words; None if the text is not a time.

    >>> when("2026-01-31T12:00:05+01:00")
    '31 January 2026, 12:00 UTC+01:00'
    """
    try:
        time = datetime.fromisoformat(started)
    except ValueError:
        return None
    return f"{time.day} {time:%B %Y, %H:%M %Z}".rstrip()

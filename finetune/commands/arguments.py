"""What verbs are given, and what they give back."""

import sys
from collections.abc import Sequence
from pathlib import Path

from finetune.errors import ConfigError, unknown_name


def split_overrides(arguments: list[str]) -> tuple[list[str], Path | None, list[str]]:
    """Splits arguments into overrides, the extra config directory and Hydra's own flags."""
    overrides: list[str] = []
    flags: list[str] = []
    search: Path | None = None
    pending = iter(arguments)
    for each in pending:
        name, equals, value = each.partition("=")
        if name in ("--config-dir", "-cd"):
            search = Path(value if equals else next(pending, ""))
            if not search.is_dir():
                raise ConfigError(
                    f"--config-dir must be a directory. Received: {search}. "
                    "It holds groups like configs/: schedule/mine.yaml."
                )
        elif name in ("--cfg", "-c", "--info", "-i", "--package", "-p") and not equals:
            flags += [each, *([value] if (value := next(pending, "")) else [])]
        elif each.startswith("-"):
            flags.append(each)
        else:
            overrides.append(each)
    return overrides, search, flags


def split_options(
    verb: str, arguments: Sequence[str], valid: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Splits arguments into options that have a value, and all others in their order.

    Args:
        verb: for messages.
        arguments: ``--name VALUE`` and ``--name=VALUE`` are options; what follows ``--`` is none.
        valid: names of options, with their dashes.

    Raises:
        ConfigError: for another option, one that is given twice, or one without a value.
    """
    options: dict[str, str] = {}
    others: list[str] = []
    pending = iter(arguments)
    for each in pending:
        name, equals, value = each.partition("=")
        if each == "--":
            others += pending
        elif not each.startswith("-") or each == "-":
            others.append(each)
        elif name not in valid:
            raise ConfigError(unknown_name(f"{verb}: an option", "one that it has", name, valid))
        elif name in options:
            raise ConfigError(f"{name} must be given once. Received: {each} again. Keep one.")
        else:
            options[name] = value if equals else next(pending, "")
            if not options[name]:
                raise ConfigError(f"{name} must have a value. Received: {each}. Add it: {name} …")
    return options, others


def whole_number(name: str, text: str, low: int, high: int, what: str) -> int:
    """Returns the number that an option has.

    Args:
        name: of the option.
        text: its value.
        low: least.
        high: most.
        what: it counts, for the message.

    Raises:
        ConfigError: for anything else.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if not low <= number <= high:
        raise ConfigError(
            f"{name} must be {low}..{high}, {what}. Received: {text}. Give a whole number in this "
            "range."
        )
    return number


def write_out(text: str) -> None:
    """Writes what a verb was asked for to stdout, at once; what it has no letter for is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()

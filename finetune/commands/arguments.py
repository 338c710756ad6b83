"""What verbs are given, and what they give back."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from finetune.errors import ConfigError, unknown_name
from finetune.printable import printable
from finetune.storage.run_directory import expanded, newest

LATEST = "latest"
CONFIG_DIR = ("--config-dir", "-cd")


def split_overrides(arguments: list[str]) -> tuple[list[str], Path | None, list[str]]:
    """Splits arguments into overrides, the extra config directory and Hydra's own flags."""
    overrides: list[str] = []
    flags: list[str] = []
    search: Path | None = None
    pending = iter(arguments)
    for each in pending:
        name, equals, value = each.partition("=")
        if name in CONFIG_DIR:
            search = config_directory(value if equals else next(pending, ""))
        elif name in ("--cfg", "-c", "--info", "-i", "--package", "-p") and not equals:
            flags += [each, *([value] if (value := next(pending, "")) else [])]
        elif each.startswith("-"):
            flags.append(each)
        else:
            overrides.append(each)
    return overrides, search, flags


def config_directory(text: str) -> Path:
    """Returns the directory with more configs that is given.

    Raises:
        ConfigError: for what is no directory, or nothing.
    """
    directory = expanded(text, "--config-dir")
    if not text or not directory.is_dir():
        raise ConfigError(
            f"--config-dir must be a directory. Received: {text or 'nothing'}. It holds groups like "
            "configs/: schedule/mine.yaml."
        )
    return directory


def split_options(
    verb: str, arguments: Sequence[str], valid: Sequence[str], flags: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Splits arguments into options, and all others in their order.

    ``--name VALUE`` and ``--name=VALUE`` are options; ``-`` is none, nor is what follows ``--``.

    Args:
        verb: for messages.
        arguments: of the verb.
        valid: names of options that have a value, with their dashes.
        flags: names of options that have none; their value is the empty text.

    Raises:
        ConfigError: for another option, one that is given twice, or one without a value, or with
            one that it does not take.
    """
    names = (*valid, *flags)
    options: dict[str, str] = {}
    others: list[str] = []
    pending = list(arguments)
    while pending:
        each = pending.pop(0)
        name, equals, value = each.partition("=")
        if each == "--":
            return options, others + pending
        if not each.startswith("-") or each == "-":
            others.append(each)
            continue
        if name not in names:
            raise ConfigError(unknown_name(f"{verb}: an option", "one that it has", name, names))
        if name in options:
            raise ConfigError(f"{name} must be given once. Received: {each} again. Keep one.")
        if name in flags:
            if equals:
                raise ConfigError(f"{name} must have no value. Received: {each}. Write {name}.")
        elif not equals and pending and pending[0].partition("=")[0] not in (*names, "--"):
            value = pending.pop(0)
        if name in valid and not value:
            raise ConfigError(f"{name} must have a value. Received: {each}. Add it: {name} …")
        options[name] = value
    return options, others


def run_argument(text: str, console: Console) -> Path:
    """Returns the directory that RUN_DIR names; ``latest`` is the newest run that is there.

    A directory that is called ``latest`` is itself.

    Args:
        text: as typed.
        console: whether it is quiet, so that nothing says which one is meant.

    Raises:
        ConfigError: where there is no run.
    """
    directory = expanded(text, "RUN_DIR")
    if text != LATEST or directory.exists():
        return directory
    found = newest(Path.cwd())
    if found is None:
        raise ConfigError(
            f"{LATEST} must be a run in outputs/ or multirun/ of the current directory. Received: "
            f"{Path.cwd()}, without one. Go to where the run was started, or give its directory."
        )
    found = found.relative_to(Path.cwd())
    if not console.quiet:
        print(f"{LATEST} is {printable(found)}", file=sys.stderr)
    return found


def one_of(options: Mapping[str, str], name: str, kind: str, valid: Sequence[str]) -> str:
    """Returns the value of an option that is one of a few; the first where it is not given.

    Args:
        options: as `split_options` gave them.
        name: of the option.
        kind: what its value is, with the article, for the message.
        valid: all values that it may have.

    Raises:
        ConfigError: for another.
    """
    value = options.get(name, valid[0])
    if value not in valid:
        raise ConfigError(unknown_name(name, kind, value, valid))
    return value


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

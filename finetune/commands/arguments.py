"""Arguments of verbs: options and their values, run directories, and the output."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from finetune.errors import ConfigError, unknown_name, valid_names
from finetune.printable import printable
from finetune.storage.run_directory import expanded, newest

LATEST = "latest"
CONFIG_DIR = ("--config-dir", "-cd")


def split_overrides(arguments: list[str]) -> tuple[list[str], Path | None, list[str]]:
    """Splits arguments into overrides, the extra config directory, and Hydra's own flags."""
    overrides: list[str] = []
    flags: list[str] = []
    search: Path | None = None
    pending = iter(arguments)
    for word in pending:
        name, equals, value = word.partition("=")
        if name in CONFIG_DIR:
            search = config_directory(value if equals else next(pending, ""))
        elif name in ("--cfg", "-c", "--info", "-i", "--package", "-p") and not equals:
            flags += [word, *([value] if (value := next(pending, "")) else [])]
        elif word.startswith("-"):
            flags.append(word)
        else:
            overrides.append(word)
    return overrides, search, flags


def config_directory(text: str) -> Path:
    """Returns the additional directory of configs.

    Raises:
        ConfigError: If the text is empty or does not name a directory.
    """
    directory = expanded(text, "--config-dir")
    if not text or not directory.is_dir():
        raise ConfigError(
            f"--config-dir must be a directory. Received: {text or 'nothing'}. Give one that holds "
            "groups of configs, such as schedule/mine.yaml."
        )
    return directory


def split_options(
    verb: str, arguments: Sequence[str], valid: Sequence[str], flags: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Splits arguments into options and the other arguments, which keep their order.

    ``--name VALUE`` and ``--name=VALUE`` are options. ``-`` is not an option, and neither is anything
    after ``--``.

    Args:
        verb: The verb, for messages.
        arguments: The arguments of the verb.
        valid: Names of the options that take a value, with their dashes.
        flags: Names of the options that take no value; their value is the empty text.

    Raises:
        ConfigError: If an option is unknown or given twice, if a value is missing, or if an option
            that takes no value has one.
    """
    names = (*valid, *flags)
    options: dict[str, str] = {}
    others: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            return options, others + pending
        if not word.startswith("-") or word == "-":
            others.append(word)
            continue
        if name not in names:
            raise ConfigError(unknown_option(verb, name, names))
        if name in options:
            raise ConfigError(f"{name} must be given once. Received: {word} again. Keep one.")
        if name in flags:
            if equals:
                raise ConfigError(f"{name} must have no value. Received: {word}. Write {name}.")
        elif not equals and pending and pending[0].partition("=")[0] not in (*names, "--"):
            value = pending.pop(0)
        if name in valid and not value:
            raise ConfigError(f"{name} must have a value. Received: {word}. Add it: {name} …")
        options[name] = value
    return options, others


def unknown_option(verb: str, name: str, valid: Sequence[str]) -> str:
    """Returns the message for an option that a verb does not have."""
    return f"unknown option {name} for {verb}. Valid: {valid_names(name, valid)}"


def run_argument(text: str, console: Console) -> Path:
    """Returns the directory that RUN_DIR names; ``latest`` stands for the newest run.

    If there is a directory with the name ``latest``, that one is returned.

    Args:
        text: The argument as typed.
        console: Unless it is quiet, the directory that ``latest`` stands for is printed to stderr.

    Raises:
        ConfigError: If there is no run.
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
    """Returns the value of an option with a few valid values; the first one is the default.

    Args:
        options: Options that `split_options` returned.
        name: Name of the option.
        kind: What the value is, with its article, for the message.
        valid: All valid values.

    Raises:
        ConfigError: If the value is not one of them.
    """
    value = options.get(name, valid[0])
    if value not in valid:
        raise ConfigError(unknown_name(name, kind, value, valid))
    return value


def whole_number(name: str, text: str, low: int, high: int, what: str) -> int:
    """Returns the value of an option that is a whole number.

    Args:
        name: Name of the option.
        text: Value as typed.
        low: Smallest valid number.
        high: Largest valid number.
        what: What the number counts, for the message.

    Raises:
        ConfigError: If the value is anything else.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if not low <= number <= high:
        raise ConfigError(
            f"{name} must be {low}..{high} ({what}). Received: {text}. Give a whole number in this "
            "range."
        )
    return number


def write_out(text: str) -> None:
    """Writes the output of a verb to stdout at once; characters that its encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()

"""Splits what Hydra's verbs are given."""

from pathlib import Path

from finetune.errors import ConfigError


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

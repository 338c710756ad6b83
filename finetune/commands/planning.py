"""`check` and `inspect`: what a run would be, without training."""

from types import ModuleType

from rich.console import Console

from finetune.commands.arguments import split_overrides
from finetune.commands.libraries import import_runs
from finetune.config import Config
from finetune.errors import ConfigError


def check(arguments: list[str], console: Console) -> int:
    """Runs one real step of each phase."""
    config = _composed("check", arguments, console)
    _runs(console).check(config, console)
    return 0


def inspect(arguments: list[str], console: Console) -> int:
    """Shows stages, plan and weight counts of every phase."""
    config = _composed("inspect", arguments, console)
    _runs(console).inspect(config, console)
    return 0


def _runs(console: Console) -> ModuleType:
    with console.status("loading TensorFlow"):
        return import_runs()


def _composed(verb: str, arguments: list[str], console: Console) -> Config:
    from finetune.composition import compose_config
    from finetune.reading import read

    overrides, search, flags = split_overrides(arguments)
    if flags:
        raise ConfigError(f"{verb} takes overrides only. Received: {' '.join(flags)}.")
    with console.status("reading the config"):
        return read(compose_config(overrides, search))

"""`check` and `inspect`: show what a run would do, without training."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from rich.console import Console

from finetune.commands.arguments import CONFIG_DIR, config_directory, split_options
from finetune.commands.libraries import import_quietly
from finetune.config.schema import Config
from finetune.errors import ConfigError
from finetune.printable import printable
from finetune.storage.run_directory import expanded

PICTURE = "--picture"


def check(arguments: list[str], console: Console) -> int:
    """Runs one real step of each phase."""
    options, overrides = split_options("check", arguments, CONFIG_DIR)
    config = _composed(overrides, options, console)
    _preview(console).check(config, console)
    return 0


def inspect(arguments: list[str], console: Console) -> int:
    """Shows stages, freeze plan and weight counts of every phase; draws the freeze map on request."""
    options, overrides = split_options("inspect", arguments, (PICTURE, *CONFIG_DIR))
    picture = _picture(options.get(PICTURE))
    config = _composed(overrides, options, console)
    record = _preview(console).inspect(config, console)
    if picture is not None:
        from finetune.reporting.report import write_picture

        write_picture(record, "freeze_map", picture)
        line = f"\nfreeze map  {printable(picture)}"
        console.print(line, markup=False, soft_wrap=True, emoji=False)
    return 0


def _picture(given: str | None) -> Path | None:
    """Returns the file of the picture; refuses one that could not be written in the end."""
    if given is None:
        return None
    picture = expanded(given, PICTURE)
    if picture.suffix not in (".png", ".svg") or not picture.parent.is_dir():
        raise ConfigError(
            f"{PICTURE} must be a file that ends with .png or .svg, in a folder that exists. "
            f"Received: {picture}. Write {PICTURE} freeze_map.png."
        )
    return picture


def _preview(console: Console) -> ModuleType:
    with console.status("loading TensorFlow"):
        return import_quietly("finetune.runs.preview")


def _composed(overrides: list[str], options: Mapping[str, str], console: Console) -> Config:
    from finetune.config.compose import compose_config
    from finetune.config.read import read
    from finetune.reporting.trackers.choice import require_installed

    places = [config_directory(options[name]) for name in CONFIG_DIR if name in options]
    with console.status("reading the config"):
        config = read(compose_config(overrides, places[0] if places else None))
    require_installed(config.trackers)
    return config

"""`check` and `inspect`: what a run would be, without training."""

from pathlib import Path
from types import ModuleType

from rich.console import Console

from finetune.commands.arguments import split_overrides
from finetune.commands.libraries import import_runs
from finetune.config import Config
from finetune.errors import ConfigError
from finetune.printable import printable

PICTURE = "--picture"


def check(arguments: list[str], console: Console) -> int:
    """Runs one real step of each phase."""
    config = _composed("check", arguments, console)
    _runs(console).check(config, console)
    return 0


def inspect(arguments: list[str], console: Console) -> int:
    """Shows stages, plan and weight counts of every phase; draws the freeze map, if asked to."""
    arguments, picture = _take_picture(arguments)
    config = _composed("inspect", arguments, console)
    record = _runs(console).inspect(config, console)
    if picture is not None:
        from finetune.reporting.report import write_picture

        write_picture(record, "freeze_map", picture)
        line = f"\nfreeze map  {printable(picture)}"
        console.print(line, markup=False, soft_wrap=True, emoji=False)
    return 0


def _take_picture(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Takes ``--picture FILE`` out of arguments; refuses what could not be written at the end."""
    rest: list[str] = []
    picture: Path | None = None
    pending = iter(arguments)
    for each in pending:
        name, equals, value = each.partition("=")
        if name != PICTURE:
            rest.append(each)
            continue
        picture = Path(value if equals else next(pending, ""))
        if picture.suffix not in (".png", ".svg") or not picture.parent.is_dir():
            raise ConfigError(
                f"{PICTURE} must be a file that ends with .png or .svg, in a folder that is there. "
                f"Received: {picture}. Write {PICTURE} freeze_map.png."
            )
    return rest, picture


def _runs(console: Console) -> ModuleType:
    with console.status("loading TensorFlow"):
        return import_runs()


def _composed(verb: str, arguments: list[str], console: Console) -> Config:
    from finetune.composition import compose_config
    from finetune.reading import read
    from finetune.reporting.trackers.choice import require_installed

    overrides, search, flags = split_overrides(arguments)
    if flags:
        raise ConfigError(f"{verb} takes overrides only. Received: {' '.join(flags)}.")
    with console.status("reading the config"):
        config = read(compose_config(overrides, search))
    require_installed(config.trackers)
    return config

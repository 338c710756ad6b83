"""The plug-ins that a config uses, for the record, and what is said if they are gone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from finetune.config import plugins
from finetune.config.schema import Config
from finetune.errors import ConfigError


def used(config: Config) -> dict[str, str]:
    """Returns the package and version of every plug-in entry, by ``group.name``."""
    named = {f"{group}.{name}": plugins.origin(group, name) for group, name in _named(config)}
    return {key: origin for key, origin in named.items() if origin not in ("", plugins.HOUSE)}


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """Yields every name in a config that an entry of a group may have."""
    yield "datasets", config.dataset.name
    if config.backbone.preset is not None:
        yield "backbones", config.backbone.preset
    for phase in config.schedule.phases.values():
        yield "policies", phase.freeze["policy"]
        yield "metrics", phase.monitor
    yield "metrics", config.schedule.monitor
    for name in config.metrics:
        yield "metrics", name
    for name, value in asdict(config.trackers).items():
        if value is True:
            yield "trackers", name


def require_still_there(directory: Path, recorded: Mapping[str, str]) -> None:
    """Refuses a run whose plug-ins are not offered any more.

    Args:
        directory: The run directory.
        recorded: What `used` returned when the run was trained.

    Raises:
        ConfigError: Naming each package that is missing.
    """
    gone: dict[str, list[str]] = {}
    for key, origin in recorded.items():
        group, _, name = key.partition(".")
        if name not in plugins.names(group):
            gone.setdefault(origin, []).append(f"{name} of {group}")
    problems = []
    for origin, entries in gone.items():
        package, _, version = origin.partition(" ")
        fix = f"Install it: pip install {package}=={version}."
        if not version:
            fix = "Run the code that registers them in the same process, or make a package of it."
        problems.append(
            f"{directory} must be used with the plug-ins of its run. Received: no "
            f"{', '.join(entries)}, from {origin}. {fix}"
        )
    if problems:
        raise ConfigError(problems)

"""Finds the differences between configs by dotted key."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from omegaconf import MISSING

from finetune.config.schema import Config, PhaseConfig
from finetune.record.schema import RunRecord
from finetune.reporting.comparison.columns import Column, Value, same

PHASES = "schedule.phases."


def flat_config(record: RunRecord) -> dict[str, Value]:
    """Returns a config by dotted key, with defaults for keys that an older version lacks."""
    config = dict(record.config)
    known = _filled(config, asdict(Config()))
    schedule = known.get("schedule")
    phases = schedule.get("phases") if isinstance(schedule, Mapping) else None
    flat: dict[str, Value] = {
        key: value for key, value in flatten(known) if not key.startswith(PHASES)
    }
    for name, phase in (phases if isinstance(phases, Mapping) else {}).items():
        flat.update(flatten(_filled(phase, asdict(PhaseConfig())), f"{PHASES}{name}"))
    return flat


def _filled(given: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(given, Mapping):
        return given
    filled = {}
    for key, value in {**defaults, **given}.items():
        default = defaults.get(key)
        if isinstance(default, Mapping):
            filled[key] = _filled(given.get(key, {}), default)
        elif value != MISSING:
            filled[key] = value
    return filled


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Value]]:
    """Yields the leaves of nested mappings by dotted key; a list is one leaf, as text.

    >>> dict(flatten({"a": {"b": 1, "c": [2, None]}}))
    {'a.b': 1, 'a.c': '[2, null]'}
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str | int | float):
        yield path, value
    else:
        yield path, _written(value)


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return "null" if value is None else str(value)


def differing(flat: Iterable[Mapping[str, Value]]) -> Iterator[Column]:
    """Yields the columns that differ. A phase that some runs do not have is one column of text."""
    configs = list(flat)
    phases = [_phases(config) for config in configs]
    partial = {name for found in phases for name in found if any(name not in f for f in phases)}
    for index, config in enumerate(configs):
        kept = {k: v for k, v in config.items() if _phase_of(k) not in partial}
        words = {f"{PHASES}{name}": phases[index][name] for name in partial & phases[index].keys()}
        configs[index] = kept | dict(sorted(words.items()))
    for key in dict.fromkeys(key for config in configs for key in config):
        column = Column(key, tuple(config.get(key) for config in configs))
        if column.differs:
            yield column


def _phase_of(key: str) -> str:
    return key.removeprefix(PHASES).partition(".")[0] if key.startswith(PHASES) else ""


def _phases(flat: Mapping[str, Value]) -> dict[str, str]:
    """Returns each phase of a config as text with the keys that differ from their defaults."""
    defaults = dict(flatten(asdict(PhaseConfig())))
    found: dict[str, list[str]] = {}
    for key, value in flat.items():
        if key.startswith(PHASES):
            name, _, rest = key.removeprefix(PHASES).partition(".")
            words = found.setdefault(name, [])
            if not same(value, defaults.get(rest)):
                words.append(f"{rest}={value}")
    return {name: " ".join(sorted(words)) or "all defaults" for name, words in found.items()}

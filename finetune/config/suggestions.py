"""Which keys of the config a user may have meant by a name that is none."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig

from finetune.config.schema import Config, PhaseConfig, ScheduleConfig
from finetune.config.texts import keys_within, kind_within
from finetune.errors import SHORT_NAMES

MOST = 4


def full_keys(name: str, composed: DictConfig) -> list[str]:
    """Returns the keys that end with a name, those of phases first; at most `MOST`.

    Args:
        name: Last part of the key that was typed, such as ``learning_rate`` or ``lr``.
        composed: The config, whose phases are taken into account.
    """
    paths = list(_paths(Config, composed, ""))
    names = {path.rpartition(".")[2] for path in paths}
    wanted = {name if name in names else SHORT_NAMES.get(name, name)}
    if not wanted & names:
        wanted = set(get_close_matches(name, sorted(names), n=1, cutoff=0.82))
    if "epochs" in wanted:
        wanted.add("epochs_per_phase")
    found = [path for path in paths if path.rpartition(".")[2] in wanted]
    return sorted(found, key=lambda path: not path.startswith("schedule."))[:MOST]


def _paths(kind: Any, node: Any, where: str) -> Iterator[str]:
    """Yields the paths of all keys that have an effect."""
    if kind is ScheduleConfig:
        phases = node.get("phases") or {} if isinstance(node, DictConfig) else {}
        for phase in phases:
            yield from _paths(PhaseConfig, None, f"{where}.phases.{phase}")
        if not isinstance(node, DictConfig) or node.get("from_depth") is None:
            return  # the other keys are those of a range of phases
    for key in keys_within(kind):
        path = f"{where}.{key}" if where else key
        inner = kind_within(kind, key)
        if keys_within(inner):
            below = node[key] if isinstance(node, DictConfig) else None
            yield from _paths(inner, below, path)
        elif path != "schedule.phases":
            yield path

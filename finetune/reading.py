"""From a composed OmegaConf node to plain typed objects, with every misfit named at once."""

from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from finetune.checks import check
from finetune.config import Config, PhaseConfig
from finetune.errors import ConfigError, unknown_name


def read(node: DictConfig) -> Config:
    """Turns a composed config into plain typed objects.

    Args:
        node: what Hydra composed; keys outside the schema are tolerated only under ``hydra``.

    Returns:
        The config; each entry of ``schedule.phases`` is a `PhaseConfig`.

    Raises:
        ConfigError: with every unknown key, wrong type and wrong value at once.
    """
    problems: list[str] = []
    config = _read(Config, node, "", problems)
    phases = node.schedule.phases
    for name in phases:
        where = f"schedule.phases.{name}"
        config.schedule.phases[name] = _read(PhaseConfig, phases[name], where, problems)
    named = tuple(problem.partition(" ")[0] for problem in problems)
    problems += [each for each in check(config) if not each.startswith(named or ("\0",))]
    if problems:
        raise ConfigError(problems)
    return config


def _read(schema: type, node: Any, where: str, problems: list[str]) -> Any:
    """Reads `node` as the dataclass `schema`, appending to `problems` what does not fit."""
    result = schema()
    if not isinstance(node, DictConfig):
        problems.append(
            f"{where} must be a mapping of {', '.join(f.name for f in fields(schema))}. "
            f"Received: {node}. Write {where}={{key: value, …}}."
        )
        return result
    typed = OmegaConf.structured(schema)
    known = {each.name: each for each in fields(schema)}
    for key in node:
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            if path != "hydra":
                problems.append(unknown_name(path, "a key of the config", str(key), known))
            continue
        default = getattr(result, str(key))
        if is_dataclass(default):
            setattr(result, str(key), _read(type(default), node[key], path, problems))
        elif not OmegaConf.is_missing(node, key) and path != "schedule.phases":
            try:
                OmegaConf.update(typed, str(key), node[key])
                value = typed[str(key)]
                plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                setattr(result, str(key), plain)
            except OmegaConfBaseException as error:
                problems.append(wrong_type(path, node[key], error))
    return result


def wrong_type(path: str, value: Any, error: OmegaConfBaseException) -> str:
    """Returns the message for a value that OmegaConf refused."""
    reason = str(error).splitlines()[0]
    return f"{path} must have the right type. Received: {value}. {reason}."

"""Converts a composed OmegaConf node to typed objects, and reports all wrong keys and values at once."""

from dataclasses import asdict, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, OmegaConfBaseException, ValidationError

from finetune.config import freeze
from finetune.config.checks import check
from finetune.config.schema import PATHS, Config, PhaseConfig
from finetune.config.texts import Freeze, Kind, Phases, described, keys_within, kind_of, kind_within
from finetune.errors import ConfigError, unknown_name
from finetune.storage.run_directory import expanded


def read(node: DictConfig) -> Config:
    """Converts a composed config to plain typed objects.

    Args:
        node: The config that Hydra composed. Only ``hydra`` may be there without being in the schema.

    Returns:
        The config; every entry of ``schedule.phases`` is a `PhaseConfig`.

    Raises:
        ConfigError: If there are unknown keys, wrong types or wrong values; names all of them.
    """
    problems: list[str] = []
    config = _read(Config, node, "", problems)
    for key in (*PATHS, "trackers.mlflow_uri"):
        group, _, name = key.partition(".")
        path = getattr(getattr(config, group), name)
        if isinstance(path, str) and path.startswith("~"):
            try:
                setattr(getattr(config, group), name, str(expanded(path, key)))
            except ConfigError as error:
                problems += error.problems
    named = tuple(problem.partition(" ")[0] for problem in problems)
    problems += [text for text in check(config) if not text.startswith(named or ("\0",))]
    if problems:
        raise ConfigError(problems)
    return config


def _read(schema: type, node: Any, where: str, problems: list[str]) -> Any:
    """Reads `node` as the dataclass `schema`; appends what is wrong to `problems`."""
    known = keys_within(schema)
    if not _is_mapping(node, where, f"a mapping of {', '.join(known)}", problems):
        return schema()
    typed = OmegaConf.structured(schema)
    OmegaConf.set_readonly(typed, False)
    values: dict[str, Any] = {}
    for key in node:
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            if path != "hydra":
                problems.append(unknown_name(path, "a key of the config", str(key), known))
            continue
        if OmegaConf.is_missing(node, key):
            continue
        kind, value = kind_within(schema, str(key)), None
        try:
            value = node[key]
            if kind is Phases:
                values[key] = _read_phases(value, path, problems)
            elif kind is Freeze:
                values[key] = _read_freeze(value, path, problems)
            elif is_dataclass(kind):
                values[key] = _read(kind, value, path, problems)  # type: ignore[arg-type]
            else:
                OmegaConf.update(typed, str(key), value)
                read_as = typed[str(key)]
                plain = OmegaConf.to_container(read_as) if OmegaConf.is_config(read_as) else read_as
                values[key] = plain
        except (OmegaConfBaseException, OverflowError) as error:
            problems.append(wrong_type(path, value, error, kind))
    return schema(**values)


def _read_phases(node: Any, where: str, problems: list[str]) -> dict[str, PhaseConfig]:
    phases: dict[str, PhaseConfig] = {}
    if _is_mapping(node, where, "a mapping from names to phases", problems):
        for name in node:
            path = f"{where}.{name}"
            try:
                value = None if OmegaConf.is_missing(node, name) else node[name]
                phases[str(name)] = _read(PhaseConfig, value, path, problems)
            except OmegaConfBaseException as error:
                problems.append(wrong_type(path, None, error))
    return phases


def _read_freeze(node: Any, where: str, problems: list[str]) -> dict[str, Any]:
    made = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    if made is None or is_dataclass(made):  # a policy itself, in the schedule of a `FineTuner`
        received = (
            "nothing" if node is None else node if made is None else f"an object of {made.__name__}"
        )
        name = node if isinstance(node, str) else "NAME"
        problems.append(
            f"{where} must be a mapping of a policy's name and its keys. Received: {received}. "
            f"Write {where}={{policy: {name}}}, with the keys of the policy."
        )
        return freeze.unset()
    try:
        name = node.get("policy")
    except OmegaConfBaseException:
        name = None  # reading it as text reports what is wrong
    schema = freeze.schema_of(name or freeze.DEFAULT, map(str, node))
    return freeze.unset() | asdict(_read(schema, node, where, problems))


def _is_mapping(node: Any, where: str, expected: str, problems: list[str]) -> bool:
    if isinstance(node, DictConfig):
        return True
    received = "nothing" if node is None else node
    problems.append(
        f"{where} must be {expected}. Received: {received}. Write {where}={{key: value, …}}."
    )
    return False


def wrong_type(path: str, value: Any, error: Exception, kind: Kind = None) -> str:
    """Returns the message for a value that OmegaConf refused.

    Args:
        path: Config path of the value.
        value: What the config holds there.
        error: What OmegaConf raised.
        kind: Type of the key; None: that of the key at `path`, whatever the other keys are.
    """
    mistyped = isinstance(error, ValidationError | ConfigTypeError)
    expected = described(kind or kind_of(path)) if mistyped else None
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if expected is not None:
        reason = f"It is {expected}"
    received = "nothing" if value is None or value == "" else value
    return f"{path} must have the right type. Received: {received}. {reason}."

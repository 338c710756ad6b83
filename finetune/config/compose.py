"""Composes overrides to a checked config with Hydra, and reports all mistakes at once.

Hydra stops at the first override that it cannot apply. This module then tries every override alone on
the chosen groups, so that one message lists them all. TensorFlow is not imported.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from finetune.config import hydra_source as config_source
from finetune.config import plugin_configs
from finetune.config.hydra_source import config_dir
from finetune.config.overrides import PHASES, normalise, quote, several_values, unparsed
from finetune.config.read import read, wrong_type
from finetune.config.schema import GROUPS, Config
from finetune.config.suggestions import full_keys
from finetune.errors import ConfigError, nearest, unknown_name
from finetune.storage.run_directory import expanded

__all__ = [
    "compose_config",
    "config_dir",
    "normalise",
    "register_schema",
    "run_directory",
]

# Hydra and Python raise ValueError, e.g. for schedule=null and for numbers of 5000 digits.
_REFUSALS = (HydraException, OmegaConfBaseException, ValueError, OverflowError, RecursionError)


def register_schema() -> None:
    """Registers the typed config with Hydra under the name that config.yaml starts from.

    Hydra then reads YAML files only through `finetune.config.hydra_source`.
    """
    config_source.register()
    plugin_configs.register()
    schema = OmegaConf.structured(Config)
    OmegaConf.set_readonly(schema.schedule, None)  # read-only after reading, not while composing
    ConfigStore.instance().store("schema", schema)


def compose_config(overrides: Sequence[str], search: Path | None = None) -> DictConfig:
    """Composes and checks the config of one run.

    Args:
        overrides: Hydra overrides as typed on the command line.
        search: An additional directory of configs (Hydra's ``--config-dir``), or None.

    Returns:
        The composed config with the ``hydra`` node.

    Raises:
        ConfigError: If overrides or values are wrong; names all of them.
    """
    problems = unparsed(overrides)
    rest = [text for text in overrides if not unparsed([text])] if problems else overrides
    extra = [] if search is None else [f"hydra.searchpath=[{quote(f'file://{search.absolute()}')}]"]
    register_schema()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="finetune"):
        try:
            _require_known_phases(rest, extra)
            composed = _compose([*extra, *normalise(rest)])
        except _REFUSALS as error:
            raise ConfigError([*problems, *_explain(rest, extra, error)]) from error
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from error
    _read_with(composed, problems)
    return composed


def _read_with(composed: DictConfig, problems: Sequence[str]) -> None:
    """Reads a config; raises its problems together with those that were found before."""
    try:
        read(composed)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from error
    if problems:
        raise ConfigError(problems)


def _compose(overrides: Sequence[str]) -> DictConfig:
    return compose("config", overrides=list(overrides), return_hydra_config=True)


def _require_known_phases(overrides: Sequence[str], extra: list[str]) -> None:
    """Refuses ``schedule.phases.NAME.key=…`` for a phase that does not exist."""
    changes = [text for text in overrides if text.startswith(PHASES)]
    if not changes:
        return
    rest = [text for text in overrides if not text.startswith((PHASES, f"~{PHASES}"))]
    try:
        phases = list(_compose([*extra, *rest]).schedule.phases)
    except _REFUSALS:
        return  # composing all overrides reports what is wrong
    added = [_phase(text.lstrip("+")) for text in rest if text.startswith("+")]
    valid = {*phases, *added}
    problems = []
    for name in map(_phase, changes):
        if name not in valid:
            problem = unknown_name(
                f"{PHASES}{name}", "a phase of the schedule", name, sorted(valid)
            )
            problems.append(f"{problem} To add a phase, write +{PHASES}{name}={{…}}.")
    if problems:
        raise ConfigError(problems)


def _phase(override: str) -> str:
    """Returns the name of the phase that an override sets or changes."""
    return override[len(PHASES) :].partition("=")[0].partition(".")[0]


def _explain(overrides: Sequence[str], extra: list[str], error: Exception) -> list[str]:
    """Returns a message for every override that Hydra refuses, and for every wrong value."""
    groups = [text for text in overrides if text.lstrip("+~").partition("=")[0] in GROUPS]
    problems: list[str] = []
    chosen: list[str] = []
    accepted: list[str] = []
    for override in [*groups, *(text for text in overrides if text not in groups)]:
        try:
            _compose([*extra, *chosen, *normalise([override])])
        except _REFUSALS as refused:
            problems.append(_describe(refused, override, [*extra, *chosen]))
        else:
            (chosen if override in groups else accepted).append(override)
    try:
        read(_compose([*extra, *chosen, *normalise(accepted)]))
    except ConfigError as wrong:
        problems += wrong.problems
    except _REFUSALS:
        pass  # the same error again
    return problems or [_describe(error, " ".join(overrides), extra)]


def _describe(error: Exception, override: str, base: list[str]) -> str:
    path, _, value = override.lstrip("+~").partition("=")
    if "requires --multirun" in str(error) or "Ambiguous value" in str(error):
        return several_values(override)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = (error.missing_cfg_file or value).rpartition("/")
        problem = unknown_name(group or path, f"a config of the group {group}", name, error.options)
        return " ".join([problem, *plugin_configs.folders()[1]])
    cause = error.__cause__
    if override.startswith("~") and "does not support deletion" in str(cause):
        return (
            f"{path} must not be deleted; only phases can be left out. Received: {override}. "
            "Write ~schedule.phases.NAME, or schedule=custom to start without phases."
        )
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        inner = getattr(cause, "full_key", "") or ""  # a key inside of a mapping {key: value}
        return _unknown_key(inner if inner.startswith(f"{path}.") else path, value, base)
    if isinstance(cause, OmegaConfBaseException):
        return wrong_type(path, value, cause)
    if "does not exist" in str(error):
        return _unknown_key(path, value, base)
    return f"{override} cannot be applied. {' '.join(str(error).split())}"


def _unknown_key(path: str, value: str, base: list[str]) -> str:
    """Returns the message for the first part of `path` that does not exist, with the valid keys."""
    composed = node = _compose(base)
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in node:
            keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
            if depth == 0:
                keys = sorted({*keys, *GROUPS} - {"hydra"})
            problem = unknown_name(path, "a key of the config", part, keys)
            if nearest(part, keys) is None:
                meant = [f"{key}={value}" for key in full_keys(parts[-1], composed)]
                problem += f" Did you mean {' or '.join(meant)}?" if meant else ""
            return problem
        node = node[part]
    return f"{path} cannot be overridden."


def run_directory(composed: DictConfig, key: str = "hydra.run.dir") -> Path:
    """Returns the directory that a composed config names, without creating it.

    Args:
        composed: Composed config with the ``hydra`` node.
        key: ``hydra.run.dir``, or ``hydra.sweep.dir`` for a sweep.

    Raises:
        ConfigError: If the name cannot be resolved.
    """
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.cfg = composed  # type: ignore[assignment] - ${hydra:…} reads it
        return expanded(str(OmegaConf.select(composed, key, throw_on_missing=True)), key)
    except _REFUSALS as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{key} must be the name of a directory. Received: {reason}. Write {key}=runs/first."
        ) from error
    finally:
        hydra.cfg = before

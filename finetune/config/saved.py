"""Reads and writes the config in a run directory, a file that others may have edited.

Nothing in it is evaluated: no interpolation, and so no resolver that reads the environment, no tag, and
no `_target_`. TensorFlow is not imported.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from finetune.config.read import read
from finetune.config.schema import PATHS, Config
from finetune.config.strict_yaml import MAX_BYTES, load_strictly
from finetune.config.texts import Kind, holds_text, kind_of, may_be_null
from finetune.errors import ConfigError
from finetune.storage.durable import write_atomically

SAVED = Path(".hydra") / "config.yaml"
OVERRIDES = Path(".hydra") / "overrides.yaml"
INTERPOLATION = "${"
_QUOTES = ("'", '"')
_NULLS = ("null",)


def read_saved(run_directory: Path, overrides: Sequence[str] = ()) -> Config:
    """Returns the config that a run was started with.

    Args:
        run_directory: Directory of the run, whose ``.hydra/config.yaml`` is read.
        overrides: ``KEY=VALUE``, which replace saved values; values are YAML.

    Raises:
        ConfigError: If the directory holds no run, or if anything in the file is wrong.
    """
    file = Path(run_directory) / SAVED
    if not file.is_file():
        raise ConfigError(_no_run(Path(run_directory)))
    saved = _load(file, Config)
    if not isinstance(saved, dict) or not saved:
        raise ConfigError(
            f"{file} must hold the config of a run, a mapping. Received: {type(saved).__name__}. "
            "Restore the file that Hydra wrote."
        )
    node = OmegaConf.create(saved)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override} must be KEY=VALUE. Received: {override}. Write seed=1.")
        OmegaConf.update(node, key, _value(key, value, override), force_add=True)
    saved = dict(OmegaConf.to_container(node))  # type: ignore[call-overload] - it is a mapping
    problems = [
        f"{file}: {where} must be a value that needs no evaluation. Received: {text}. "
        "Write its value instead."
        for where, text in _interpolations(saved, "")
    ]
    if "hydra" in saved:
        problems.append(
            f"{file}: hydra must be left out. Received: hydra. It is not a key of a run."
        )
    if problems:
        raise ConfigError(problems)
    try:
        return read(node)
    except ConfigError as error:
        raise ConfigError([f"{file}: {problem}" for problem in error.problems]) from error


def _value(key: str, text: str, override: str) -> Any:
    """Returns the value of an override: the text itself if the key holds text, else YAML."""
    kind = kind_of(key)
    if holds_text(kind) and not text.startswith(_QUOTES):
        return None if may_be_null(kind) and text.lower() in _NULLS else text
    return load_strictly(text.encode(), override, kind=kind)


def read_overrides(run_directory: Path) -> list[str]:
    """Returns the overrides that a run was started with; none if it was killed before they were saved.

    Raises:
        ConfigError: If the file holds anything else.
    """
    file = run_directory / OVERRIDES
    saved = _load(file) if file.is_file() else None
    if saved is None:
        return []
    if not isinstance(saved, list) or not all(isinstance(override, str) for override in saved):
        raise ConfigError(
            f"{file} must hold a list of overrides. Received: {type(saved).__name__}. Restore the "
            "file that Hydra wrote."
        )
    return saved


def _load(file: Path, kind: Kind = None) -> Any:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    return load_strictly(content, str(file), aliases=False, kind=kind)


def _no_run(directory: Path) -> str:
    hint = where_to_look(directory)
    if (directory / "run.json").is_file():
        hint = "It is a run of FineTuner: call its fit with resume=True."
    return f"RUN_DIR must be the directory of a run, which holds {SAVED}. Received: {directory}. {hint}"


def where_to_look(directory: Path) -> str:
    """Returns a hint about the right directory; for a sweep, it names the directories of the jobs."""
    jobs = sorted(str(path.parent) for path in directory.glob("*/run.json"))
    if jobs:
        return f"Give one of its jobs: {', '.join(jobs[:10])}{' …' if len(jobs) > 10 else ''}."
    return "Give the directory that the run was started with (hydra.run.dir)."


def save(config: Config, run_directory: Path) -> None:
    """Replaces the saved config of a run with the one that it is resumed with, if there is one."""
    if (run_directory / SAVED).is_file():
        write_again(config, run_directory)


def write_again(config: Config, run_directory: Path) -> None:
    """Writes the config of a run, which is needed to resume it."""
    (run_directory / SAVED).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run_directory / SAVED, OmegaConf.to_yaml(OmegaConf.create(asdict(config))))


def save_resolved(composed: DictConfig, run_directory: Path) -> None:
    """Replaces the config that Hydra saved with one that has the same meaning anywhere.

    Interpolations and relative paths are replaced by their values.

    Args:
        composed: Config of the run, without the ``hydra`` node.
        run_directory: Directory in which Hydra saved it.
    """
    file = run_directory / SAVED
    node = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    for key in PATHS:
        path = OmegaConf.select(node, key)
        if isinstance(path, str) and not path.startswith("~"):
            OmegaConf.update(node, key, str(Path(path).absolute()))
    write_atomically(file, OmegaConf.to_yaml(node))


def _interpolations(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if INTERPOLATION in key:
                yield f"a key in {where or 'the config'}", key
            yield from _interpolations(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _interpolations(item, f"{where}[{index}]")
    elif isinstance(value, str) and INTERPOLATION in value:
        yield where, value

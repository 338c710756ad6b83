"""Restricts Hydra to YAML files that hold only data.

Hydra instantiates `hydra.callbacks` and passes `hydra.job_logging` to logging, which calls whatever it
names: a file in a directory of configs could run any code. Files outside of this program's own configs
are therefore read strictly, and of Hydra's settings they may set only the directories of runs and
sweeps and the parameters of a sweep.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from finetune.config import plugin_configs
from finetune.config.overrides import keep_text
from finetune.config.schema import GROUPS
from finetune.config.strict_yaml import MAX_BYTES, load_strictly
from finetune.config.texts import keep_texts, kind_of
from finetune.errors import ConfigError
from finetune.keras_internals import (
    config_file_name,
    config_header,
    hydra_file_source,
    omegaconf_loader,
    replace_hydra_file_source,
)

_HYDRA_KEYS = ("run", "sweep", "sweeper")
_PACKAGES = ("_global_", "_group_", "_here_", *GROUPS, "head")
# Resolvers that return text; `oc.create` and `oc.decode` would return a config that nobody checked.
_RESOLVERS = ("hydra", "now", "oc.env", "oc.select")
_INTERPOLATION = re.compile(r"\$\{\s*([^:}]*)(:?)")


def config_dir() -> Path:
    """Returns the directory of the Hydra groups: beside the package, or inside an installed one."""
    package = Path(__file__).parents[1]
    for candidate in (package / "configs", package.parent / "configs"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no configs directory in or beside {package}")


class FileConfigSource(hydra_file_source()):
    """Hydra's source of config files, which checks a file before it loads it."""

    def load_config(self, config_path: str) -> ConfigResult:
        """See `hydra.plugins.config_source.ConfigSource`."""
        file = Path(self.path) / config_file_name(self, config_path)
        if not file.is_file():
            return super().load_config(config_path)  # raises the error for a missing file
        if config_dir().resolve() not in file.resolve().parents:
            problems = list(_problems(file, config_path))
            if problems:
                raise ConfigError(problems)
        if config_path.partition("/")[0] in GROUPS:
            plugin_configs.require_one_package(file.relative_to(self.path), config_dir())
        text = file.read_text(encoding="utf-8")
        header = config_header(text[:512])
        content = OmegaConf.create(_with_texts(text, _package(config_path, header)))
        source = f"{self.scheme()}://{self.path}"
        return ConfigResult(self.provider, source, content, header)


def register() -> None:
    """Replaces Hydra's own source of config files with `FileConfigSource`."""
    replace_hydra_file_source(FileConfigSource)


def _package(config_path: str, header: dict[str, str | None]) -> str:
    """Returns the place of a file in the config."""
    group = config_path.rpartition("/")[0].replace("/", ".")
    package = header.get("package") or "_group_"
    return "" if package == "_global_" else package.replace("_group_", group)


def _with_texts(text: str, package: str) -> Any:
    """Returns the content of a config file; texts are kept as they are typed."""
    loader = omegaconf_loader()
    node = yaml.compose(text, loader)
    if node is None:
        return {}
    keep_texts(node, kind_of(package))
    if package == "" and isinstance(node, yaml.MappingNode):
        _keep_swept_texts(node)
    return loader("").construct_document(node)


def _keep_swept_texts(root: yaml.MappingNode) -> None:
    """Keeps texts in ``hydra.sweeper.params``, which Hydra turns into overrides, as they are typed."""
    params: yaml.Node | None = root
    for name in ("hydra", "sweeper", "params"):
        pairs = params.value if isinstance(params, yaml.MappingNode) else ()
        params = next((value for key, value in pairs if key.value == name), None)
    for key, value in params.value if isinstance(params, yaml.MappingNode) else ():
        if isinstance(value, yaml.ScalarNode) and isinstance(key, yaml.ScalarNode):
            override = keep_text(f"{key.value}={value.value}", swept=True)
            value.value = override.partition("=")[2]
            value.tag = "tag:yaml.org,2002:str"


def _problems(file: Path, config_path: str) -> Iterator[str]:
    """Yields what is wrong with a config file that is not one of this program's own."""
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    data = load_strictly(content, str(file))
    if data is not None and not isinstance(data, dict):
        yield f"{file} must hold a mapping. Received: {type(data).__name__}. Write KEY: VALUE."
        return
    data = data or {}
    if config_path.split("/")[0] == "hydra":
        yield (
            f"{file} must be in a group of this program: {', '.join(GROUPS)}. Received: "
            f"{config_path}. Hydra's own groups can name code to run; move the file."
        )
    header = config_header(content[:512].decode("utf-8", "replace"))
    package = header.get("package")
    if package is not None and package.partition(".")[0] not in _PACKAGES:
        yield (
            f"{file} must have a package of this program: {', '.join(_PACKAGES)}. Received: "
            f"{package}. Write # @package _global_."
        )
    yield from _hydra_problems(file, data.get("hydra", {}))
    for text in _texts(data.get("defaults")):
        target = text.partition("@")[2]
        if "@" in text and target.split(".")[0].split(":")[0] not in _PACKAGES:
            yield (
                f"{file} must place its defaults in a package of this program. Received: {text}. "
                "Leave out what follows the @."
            )
    for text in _texts(data):
        for found in _INTERPOLATION.finditer(text):
            if "$" in found[1] or (found[2] and found[1].strip() not in _RESOLVERS):
                yield (
                    f"{file} must use no resolver but {', '.join(_RESOLVERS)}. Received: {text}. "
                    "Write its value instead."
                )


def _hydra_problems(file: Path, hydra: Any) -> Iterator[str]:
    settings = hydra if isinstance(hydra, dict) else {str(hydra): None}
    sweeper = settings.get("sweeper")
    names = [name for name in settings if name not in _HYDRA_KEYS]
    for name in sweeper if isinstance(sweeper, dict) else ():
        if name != "params":
            names.append(f"sweeper.{name}")
    params = sweeper.get("params") if isinstance(sweeper, dict) else None
    for text in _texts(params):
        if "hydra" in text:
            names.append(f"sweeper.params.{text}")
    for name in names:
        yield (
            f"{file} must set nothing of Hydra but run, sweep and sweeper.params. Received: "
            f"hydra.{name}. Set it on the command line."
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value

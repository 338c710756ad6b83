"""Configs of installed packages: a folder of YAML on Hydra's search path, and names without a file.

`experiment=NAME`, `schedule=NAME` and the like then find the files of the packages, which are read as
strictly as those of a user's own ``--config-dir``.
"""

import warnings
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from finetune.config import plugins
from finetune.errors import ConfigError, first_line


class PackageConfigs(SearchPathPlugin):
    """Hydra's hook for more directories of configs."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See `hydra.plugins.search_path_plugin.SearchPathPlugin`."""
        for origin, folder in folders()[0].items():
            search_path.append(origin, f"file://{folder}")


def register() -> None:
    """Makes Hydra find the configs of packages, and every dataset and backbone of a plug-in.

    A file of the same name, of the package or of the user, adds keys to the name of the entry. Hydra
    merges the two and warns that a later version will read the file alone, which must therefore
    hold the name too.
    """
    warnings.filterwarnings("ignore", r"\s*'(dataset|backbone)/.* is validated against ConfigStore")
    Plugins.instance().register(PackageConfigs)
    for group, config, key in (
        ("datasets", "dataset", "name"),
        ("backbones", "backbone", "preset"),
    ):
        for name in plugins.names(group):
            if plugins.origin(group, name) != plugins.HOUSE:
                ConfigStore.instance().store(group=config, name=name, node={key: name})


def folders() -> tuple[dict[str, Path], list[str]]:
    """Returns the folders of configs by the package and version, and what is wrong with others."""
    found: dict[str, Path] = {}
    broken: list[str] = []
    for offer in plugins.installed("configs"):
        try:
            found[offer.origin] = offer.load()
        except Exception as error:
            broken.append(f"The configs of {offer.origin} cannot be read: {first_line(error)}.")
    return found, broken


def require_one_package(relative: Path, own: Path) -> None:
    """Refuses a config that two packages offer, or one of them and this program.

    Args:
        relative: Place of the config in the groups, ``schedule/mine.yaml``.
        own: Directory of this program's configs.

    Raises:
        ConfigError: Naming both packages.
    """
    places = {plugins.HOUSE: own, **folders()[0]}
    holding = [origin for origin, folder in places.items() if (folder / relative).is_file()]
    if len(holding) > 1:
        raise ConfigError(
            f"{relative.parent} must be a config that one package offers. Received: "
            f"{relative.stem}, which {' and '.join(holding)} both offer. Uninstall one of them: "
            f"pip uninstall {holding[-1].partition(' ')[0]}."
        )

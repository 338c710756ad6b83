"""The backbones that come with the package; importing this loads neither Keras nor TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class BackboneEntry:
    """One bundled backbone; `parameters` counts scalars, `image_size` is (height, width)."""

    name: str
    path: Path
    description: str
    parameters: int
    image_size: tuple[int, int]
    licence: str


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

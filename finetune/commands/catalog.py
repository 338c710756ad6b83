"""`catalog`: what there is to choose from. Reads files only; no TensorFlow, no Hydra."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.config import freeze
from finetune.config.compose import config_dir
from finetune.datasets.catalog import BUNDLED_DATASETS
from finetune.errors import ConfigError, unknown_name
from finetune.printable import printable

CLEAR = "--clear"
_DIRECTORY = "features.dir="


def show(arguments: Sequence[str], console: Console) -> int:
    """Prints the catalogs named in `arguments`, or all of them; empties the store with --clear.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a catalog that does not exist, or --clear with any but ``features``.
    """
    names = [each for each in arguments if each != CLEAR and not each.startswith(_DIRECTORY)]
    for name in names:
        if name not in CATALOGS:
            raise ConfigError(unknown_name("catalog", "a catalog", name, CATALOGS))
    if CLEAR in arguments:
        if names != ["features"]:
            raise ConfigError(
                f"{CLEAR} must come with the catalog features alone. Received: "
                f"{' '.join(names) or 'no catalog'}. Use: catalog features {CLEAR}."
            )
        store = _store(arguments)
        text = f"{decimal(store.clear())} removed from {store.directory}"
        console.print(Text(printable(text)))
        return 0
    for number, name in enumerate(names or CATALOGS):
        if number:
            console.print()
        console.print(CATALOGS[name](arguments))
    return 0


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # nothing is lost where it is narrow
    return table


def _described(group: str) -> list[tuple[str, str, dict]]:
    """Returns (name, first comment, content) of each config of a group."""
    rows = []
    for path in sorted((config_dir() / group).glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comments = [line[2:].strip() for line in text.splitlines() if line.startswith("# ")]
        comments = [line for line in comments if not line.startswith("@package")]
        rows.append((path.stem, comments[0] if comments else "", yaml.safe_load(text) or {}))
    return rows


def _backbones(_arguments: Sequence[str]) -> Table:
    table = _table("backbones", "backbone=", "parameters", "on disk", "what")
    for name, description, content in _described("backbone"):
        entry = NAMED_BACKBONES.get(content.get("preset") or "")
        parameters = "" if entry is None else f"{entry.parameters:,}"
        table.add_row(name, parameters, _backbone_on_disk(content.get("preset")), Text(description))
    table.caption = "Any KerasHub preset of the families in docs/backbones.md: backbone.preset=NAME; or hf://, kaggle://"
    table.caption_justify = "left"
    return table


def _backbone_on_disk(preset: str | None) -> str:
    if preset is None:
        return "–"
    if preset in NAMED_BACKBONES:
        path = NAMED_BACKBONES[preset].path
        if path is None:
            return "no"
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return f"{size / 1e6:.1f} MB"
    cache = Path(os.environ.get("KAGGLEHUB_CACHE", Path.home() / ".cache" / "kagglehub"))
    return "yes" if any(cache.glob(f"models/keras/*/keras/{preset}/*")) else "no"


def _datasets(_arguments: Sequence[str]) -> Table:
    table = _table("datasets", "dataset=", "samples", "classes", "on disk", "what")
    root = Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
    for name, description, _ in _described("dataset"):
        entry = BUNDLED_DATASETS.get(name)
        if entry is None:
            table.add_row(name, "", "", "–", Text(description))
            continue
        prepared = "prepared" if any(root.glob(f"{name}/**/dataset_info.json")) else "at first use"
        samples, classes = f"{entry.num_examples:,}", str(entry.num_classes)
        table.add_row(name, samples, classes, prepared, Text(description))
    table.caption = (
        "Any TFDS set of images or texts with class labels: dataset=tfds dataset.name=NAME"
    )
    table.caption_justify = "left"
    return table


def _schedules(_arguments: Sequence[str]) -> Table:
    table = _table("schedules", "schedule=", "phases", "what")
    for name, description, content in _described("schedule"):
        phases = list(content.get("phases") or {})
        if content.get("from_depth") is not None:
            phases.append(f"depth {content['from_depth']} …")
        table.add_row(name, ", ".join(phases) or "–", Text(description))
    return table


def _experiments(_arguments: Sequence[str]) -> Table:
    table = _table("experiments", "experiment=", "command")
    for name, description, _ in _described("experiment"):
        table.add_row(name, Text(description))
    return table


def _policies(_arguments: Sequence[str]) -> Table:
    table = _table("freeze policies", "policy", "what")
    for name in freeze.built_in():
        table.add_row(name, Text(freeze.description(name)))
    return table


def _features(arguments: Sequence[str]) -> Table:
    store = _store(arguments)
    entries = sorted(store.entries(), key=lambda each: -each.used)
    table = _table("stored features", "of", "split", "cut", "samples", "size", "used")
    for each in entries:
        made = {"split": "", "view": None, "cut": ""} | each.ingredients
        split = (
            made["split"] if made["view"] is None else f"{made['split']}, view {made['view'][0]}"
        )
        used = time.strftime("%y-%m-%d %H:%M", time.localtime(each.used))
        cells = [made["label"], split, made["cut"], f"{each.num_samples:,}"]
        table.add_row(*(Text(printable(cell)) for cell in cells), decimal(each.num_bytes), used)
    total = decimal(sum(each.num_bytes for each in entries))
    table.caption = Text(printable(f"{len(entries)} entries, {total} in {store.directory}"))
    table.caption_justify = "left"
    return table


def _store(arguments: Sequence[str]) -> Any:
    from finetune.features.store import Store, features_directory  # NumPy is not for all verbs

    given = [each.removeprefix(_DIRECTORY) for each in arguments if each.startswith(_DIRECTORY)]
    return Store(features_directory(given[-1] if given else None), max_bytes=0)


CATALOGS: dict[str, Callable[[Sequence[str]], Table]] = {
    "backbones": _backbones,
    "datasets": _datasets,
    "schedules": _schedules,
    "experiments": _experiments,
    "policies": _policies,
    "features": _features,
}

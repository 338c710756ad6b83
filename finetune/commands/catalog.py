"""`catalog`: what there is to choose from, and which package it comes from.

Reads files and imports plug-ins; this program's own part of it loads no TensorFlow.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from finetune.backbones.catalog import NAMED_BACKBONES
from finetune.config import plugins
from finetune.config.hydra_source import config_dir
from finetune.config.plugin_configs import folders
from finetune.config.strict_yaml import load_strictly
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
    names = [word for word in arguments if word != CLEAR and not word.startswith(_DIRECTORY)]
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
    for problem in (*plugins.problems(), *folders()[1]):
        console.print(Text(printable(f"broken: {problem}")))
    return 0


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # nothing is lost where it is narrow
    return table


def _described(group: str) -> Iterator[tuple[str, str, str, dict]]:
    """Yields (name, origin, first comment, content) of each config of a group."""
    for origin, folder in {plugins.HOUSE: config_dir(), **folders()[0]}.items():
        for path in sorted((folder / group).glob("*.yaml")):
            try:
                content = path.read_bytes()
                held = load_strictly(content, str(path)) or {}
            except (OSError, ConfigError) as error:
                yield path.stem, origin, f"broken: {error}", {}
                continue
            lines = content.decode().splitlines()
            comments = [line[2:].strip() for line in lines if line.startswith("# ")]
            comments = [line for line in comments if not line.startswith("@package")]
            yield path.stem, origin, comments[0] if comments else "", held


def _entries(group: str, own: bool = True) -> Iterator[tuple[str, str, Any, str]]:
    """Yields (name, origin, entry, description) of each entry; None for one that is broken.

    Args:
        group: Group of plug-ins.
        own: Whether the entries of this program are among them.
    """
    for name in plugins.names(group):
        if not own and plugins.is_own(group, name):
            continue
        origin = plugins.origin(group, name)
        try:
            entry = plugins.load(group, name, group)
        except ConfigError as error:
            yield name, origin, None, f"broken: {error}"
            continue
        documented = getattr(entry, "compute", entry)
        paragraph = (getdoc(documented) or "").partition("\n\n")[0]
        yield name, origin, entry, " ".join(paragraph.split())


def _backbones(_arguments: Sequence[str]) -> Table:
    table = _table("backbones", "backbone=", "parameters", "on disk", "from", "what")
    listed = set()
    for name, origin, description, content in _described("backbone"):
        entry = NAMED_BACKBONES.get(content.get("preset") or "")
        parameters = "" if entry is None else f"{entry.parameters:,}"
        on_disk = _backbone_on_disk(content.get("preset"))
        table.add_row(name, parameters, on_disk, origin, Text(printable(description)))
        listed.add(name)
    for name, origin, _, description in _entries("backbones", own=False):
        if name not in listed:
            table.add_row(name, "", "–", origin, Text(printable(description)))
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
    table = _table("datasets", "dataset=", "samples", "classes", "on disk", "from", "what")
    root = Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
    listed = set()
    for name, origin, description, _ in _described("dataset"):
        listed.add(name)
        text = Text(printable(description))
        entry = BUNDLED_DATASETS.get(name)
        if entry is None:
            table.add_row(name, "", "", "–", origin, text)
            continue
        prepared = "prepared" if any(root.glob(f"{name}/**/dataset_info.json")) else "at first use"
        samples, classes = f"{entry.num_examples:,}", str(entry.num_classes)
        table.add_row(name, samples, classes, prepared, origin, text)
    for name, origin, _, description in _entries("datasets", own=False):
        if name not in listed:
            table.add_row(name, "", "", "–", origin, Text(printable(description)))
    table.caption = (
        "Any TFDS set of images or texts with class labels: dataset=tfds dataset.name=NAME"
    )
    table.caption_justify = "left"
    return table


def _schedules(_arguments: Sequence[str]) -> Table:
    table = _table("schedules", "schedule=", "phases", "from", "what")
    for name, origin, description, content in _described("schedule"):
        phases = list(content.get("phases") or {})
        if content.get("from_depth") is not None:
            phases.append(f"depth {content['from_depth']} …")
        text = Text(printable(description))
        table.add_row(name, printable(", ".join(phases)) or "–", origin, text)
    return table


def _experiments(_arguments: Sequence[str]) -> Table:
    table = _table("experiments", "experiment=", "from", "command")
    for name, origin, description, _ in _described("experiment"):
        table.add_row(name, origin, Text(printable(description)))
    return table


def _policies(_arguments: Sequence[str]) -> Table:
    table = _table("freeze policies", "policy", "from", "what")
    for name, origin, _, description in _entries("policies"):
        table.add_row(name, origin, Text(printable(description)))
    return table


def _metrics(_arguments: Sequence[str]) -> Table:
    table = _table("metrics", "metric", "better", "labels", "from", "what")
    labels = {"single_label": "one", "multi_label": "several", None: "any"}
    for name, origin, entry, description in _entries("metrics"):
        better = "" if entry is None else {"max": "high", "min": "low"}[entry.direction]
        kind = "" if entry is None else labels[entry.task]
        table.add_row(name, better, kind, origin, Text(printable(description)))
    return table


def _trackers(_arguments: Sequence[str]) -> Table:
    table = _table("trackers", "trackers.…=true", "from", "what")
    for name, origin, _, description in _entries("trackers"):
        table.add_row(name, origin, Text(printable(description)))
    return table


def _features(arguments: Sequence[str]) -> Table:
    store = _store(arguments)
    entries = sorted(store.entries(), key=lambda entry: -entry.used)
    table = _table("stored features", "of", "split", "cut", "samples", "size", "used")
    for entry in entries:
        made = {"split": "", "view": None, "cut": ""} | entry.ingredients
        split = (
            made["split"] if made["view"] is None else f"{made['split']}, view {made['view'][0]}"
        )
        used = time.strftime("%y-%m-%d %H:%M", time.localtime(entry.used))
        cells = [made["label"], split, made["cut"], f"{entry.num_samples:,}"]
        table.add_row(*(Text(printable(cell)) for cell in cells), decimal(entry.num_bytes), used)
    total = decimal(sum(entry.num_bytes for entry in entries))
    table.caption = Text(printable(f"{len(entries)} entries, {total} in {store.directory}"))
    table.caption_justify = "left"
    return table


def _store(arguments: Sequence[str]) -> Any:
    from finetune.features.store import Store, features_directory  # NumPy is not for all verbs

    given = [w.removeprefix(_DIRECTORY) for w in arguments if w.startswith(_DIRECTORY)]
    return Store(features_directory(given[-1] if given else None), max_bytes=0)


CATALOGS: dict[str, Callable[[Sequence[str]], Table]] = {
    "backbones": _backbones,
    "datasets": _datasets,
    "schedules": _schedules,
    "experiments": _experiments,
    "policies": _policies,
    "metrics": _metrics,
    "trackers": _trackers,
    "features": _features,
}

"""The single entry point from the config of a dataset to the loaded dataset, for every source."""

from dataclasses import asdict
from typing import Any

from finetune.config import plugins
from finetune.config.schema import DatasetConfig
from finetune.datasets.dataset import Dataset
from finetune.datasets.sources.arrays import load_arrays
from finetune.datasets.sources.folder import load_folder
from finetune.datasets.sources.plugin import assemble_splits
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError


def load_dataset(given: DatasetConfig, seed: int) -> Dataset:
    """Loads the dataset that `given.name` names: a built-in source, a plug-in's, or one of TFDS.

    Args:
        given: The validated config of the dataset.
        seed: Seed of the rows that are held out and kept, 0..2**32-1.

    Raises:
        ConfigError: If the data cannot be read; it says what to do.
    """
    if given.name not in plugins.names("datasets"):
        return tfds(given, seed)
    found = plugins.call("datasets", given.name, "dataset.name", given, seed)
    if isinstance(found, Dataset):
        return found
    return assemble_splits(
        given.name, found, plugins.origin("datasets", given.name), **_chosen(given, seed)
    )


def image_folder(given: DatasetConfig, seed: int) -> Dataset:
    """Loads a folder of images."""
    return load_folder(_path(given), **_chosen(given, seed))


def arrays(given: DatasetConfig, seed: int) -> Dataset:
    """Loads a NumPy file of images or texts."""
    return load_arrays(_path(given), **_chosen(given, seed))


def table(given: DatasetConfig, seed: int) -> Dataset:
    """Loads tables of images or texts."""
    return load_table(
        _path(given),
        input_column=given.columns.input,
        label_column=given.columns.label,
        label_separator=given.label_separator,
        **_chosen(given, seed),
    )


def tfds(given: DatasetConfig, seed: int) -> Dataset:
    """Loads a dataset of TFDS, also one that is bundled with this program."""
    from finetune.datasets.sources.tfds import load  # imports TFDS, which files do without

    return load(
        given.name,
        version=given.version,
        config=given.config,
        data_dir=given.data_dir,
        splits=asdict(given.splits),
        input_feature=given.columns.input,
        label_feature=given.columns.label,
        **_chosen(given, seed),
    )


digits = docstrings = tfds


def _chosen(given: DatasetConfig, seed: int) -> dict[str, Any]:
    return {
        "max_samples": given.max_samples,
        "train_per_class": given.train_per_class,
        "seed": seed,
        "skip": given.on_bad_sample == "skip",
    }


def _path(given: DatasetConfig) -> str:
    if given.path is None:
        raise ConfigError(
            f"dataset.path must be the files of dataset {given.name}. Received: nothing. "
            "Add dataset.path=PATH."
        )
    return given.path

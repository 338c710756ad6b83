"""The one way in: from the dataset's config to the dataset, whatever it comes from."""

from dataclasses import asdict
from typing import Any

from finetune.config.schema import DatasetConfig
from finetune.datasets.dataset import Dataset
from finetune.datasets.sources.arrays import load_arrays
from finetune.datasets.sources.folder import load_folder
from finetune.datasets.sources.table import load_table
from finetune.errors import ConfigError


def load_dataset(given: DatasetConfig, seed: int) -> Dataset:
    """Loads what `given.name` says: image_folder, table, arrays, a bundled or a TFDS dataset.

    Args:
        given: the dataset's config, checked.
        seed: chooses what is held out and the rows that are kept, 0..2**32-1.

    Raises:
        ConfigError: for data that cannot be read, with what to do about it.
    """
    chosen: dict[str, Any] = {
        "max_samples": given.max_samples,
        "train_per_class": given.train_per_class,
        "seed": seed,
        "skip": given.on_bad_sample == "skip",
    }
    if given.name == "image_folder":
        return load_folder(_path(given), **chosen)
    if given.name == "arrays":
        return load_arrays(_path(given), **chosen)
    if given.name == "table":
        return load_table(
            _path(given),
            input_column=given.columns.input,
            label_column=given.columns.label,
            label_separator=given.label_separator,
            **chosen,
        )
    from finetune.datasets.sources.tfds import load  # imports TFDS, which files do without

    return load(
        given.name,
        version=given.version,
        config=given.config,
        data_dir=given.data_dir,
        splits=asdict(given.splits),
        input_feature=given.columns.input,
        label_feature=given.columns.label,
        **chosen,
    )


def _path(given: DatasetConfig) -> str:
    if given.path is None:
        raise ConfigError(
            f"dataset.path must be the files of dataset {given.name}. Received: nothing. "
            "Add dataset.path=PATH."
        )
    return given.path

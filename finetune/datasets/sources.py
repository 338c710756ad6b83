"""temporary"""

from dataclasses import asdict

from finetune.datasets.folder import load_folder
from finetune.datasets.loading import load as load_tfds


def load_dataset(given, seed):
    chosen = {
        "max_samples": given.max_samples,
        "train_per_class": given.train_per_class,
        "seed": seed,
    }
    if given.name == "image_folder":
        return load_folder(given.path, **chosen)
    return load_tfds(
        given.name,
        version=given.version,
        config=given.config,
        data_dir=given.data_dir,
        splits=asdict(given.splits),
        **chosen,
    )

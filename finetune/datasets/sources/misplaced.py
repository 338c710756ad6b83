"""Descriptions of paths that a dataset cannot read, with the dataset that can."""

import os
from pathlib import Path

from finetune.datasets.images.files import is_image

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_SHEETS = (".xlsx", ".xls", ".ods")


def what_it_is(path: Path, dataset: str) -> str:
    """Returns what a path is and what to do about it, to follow "Received: PATH, ".

    Args:
        path: Path that the dataset cannot read.
        dataset: Name of the dataset: image_folder, table or arrays.
    """
    if not os.path.exists(path):  # pathlib's method raises without permission
        return (
            "which does not exist. Check the path; relative paths start from the current directory."
        )
    if os.path.isdir(path):
        if dataset == "arrays":
            return "which is a directory. Use dataset=image_folder or dataset=table."
        return "which is a directory."
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return "which is an archive. Unpack it and give the resulting folder."
    if suffix in _SHEETS:
        return "which is a spreadsheet. Save it as CSV and use dataset=table."
    if suffix in _TABLES and dataset != "table":
        return "which is a table. Use dataset=table."
    if suffix == ".npz" and dataset != "arrays":
        return "which is a file of arrays. Use dataset=arrays."
    if suffix == ".npy":
        return (
            "which is a single array. Store examples and labels together with "
            "numpy.savez(FILE, x=images, y=labels) and use dataset=arrays."
        )
    if suffix in (".json", ".ndjson"):
        return "which is JSON. Write one object per line to a .jsonl file and use dataset=table."
    if is_image(path):
        return (
            "which is a single image. Give the folder that contains the class folders; single "
            "images are for predict."
        )
    return "which is a file of an unknown kind."

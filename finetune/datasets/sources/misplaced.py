"""Describes a path that a dataset cannot read, and names the dataset that can."""

import os
from pathlib import Path

from finetune.datasets.images.files import is_image

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_SHEETS = (".xlsx", ".xls", ".ods")


def what_it_is(path: Path, dataset: str) -> str:
    """Returns what a path is and what to do about it, as the text after "Received: PATH, ".

    Args:
        path: a path that the dataset cannot read.
        dataset: image_folder, table or arrays.
    """
    if not os.path.exists(path):  # pathlib's raises where it may not look
        return "which does not exist. Check the path; a relative one begins where the command does."
    if os.path.isdir(path):
        if dataset == "arrays":
            return "which is a directory. Use dataset=image_folder or dataset=table for it."
        return "which is a directory."
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return "which is an archive. Unpack it, and give the folder that comes out of it."
    if suffix in _SHEETS:
        return "which is a spreadsheet. Save it as CSV, for dataset=table."
    if suffix in _TABLES and dataset != "table":
        return "which is a table. Use dataset=table for it."
    if suffix == ".npz" and dataset != "arrays":
        return "which is a file of arrays. Use dataset=arrays for it."
    if suffix == ".npy":
        return (
            "which is a single array. Store examples and labels together, "
            "numpy.savez(FILE, x=images, y=labels), for dataset=arrays."
        )
    if suffix in (".json", ".ndjson"):
        return "which is JSON. Write one object a line into a file that ends in .jsonl, for dataset=table."
    if is_image(path):
        return (
            "which is a single image. Give the folder that holds the folders of the classes; "
            "predict takes single images."
        )
    return "which is a file of another kind."

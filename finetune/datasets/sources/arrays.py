"""Images or texts in the arrays of one NumPy file."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finetune.datasets.assemble import (
    Part,
    Rows,
    assemble,
    object_array,
    require_rows,
    row_names,
)
from finetune.datasets.bad_samples import BadSample, text_reason
from finetune.datasets.dataset import Dataset, Found, require_classes
from finetune.datasets.memory import memory_budget
from finetune.datasets.names import SPLITS, split_of
from finetune.datasets.sources.array_labels import column_of, labels_of, one_hot_note
from finetune.datasets.sources.misplaced import what_it_is
from finetune.errors import ConfigError, unknown_name

_WHERE = "dataset.path must be a .npz file of arrays"
_LAYOUT = (
    "It needs x_train and y_train (or x and y, which are split), and may have x_validation, "
    "y_validation, x_test, y_test and classes."
)
_IMAGES = "(n, height, width) or (n, height, width, 1 or 3) of 0..255, or texts (n,) of type str"


def load_arrays(
    path: str,
    *,
    max_samples: int | None = None,
    train_per_class: int | None = None,
    seed: int,
    skip: bool = False,
) -> Dataset:
    """Loads a ``.npz`` file with x_train, y_train, and x_validation (x_val), …, or with x and y.

    A missing split is taken from the training rows as in `load_folder`. x are images, uint8 or
    other numbers in 0..255, (n, height, width) or (n, height, width, 1 or 3); or texts, (n,) of
    type str. y are class indices, (n,) or (n, 1); names, (n,) of type str, sorted to indices; or 0
    and 1, (n, classes). The latter are one-hot if every row of all splits has one 1, and
    multi-label otherwise. ``classes`` contains the class names.

    Args:
        path: FILE.npz.
        max_samples: Maximum number of rows to keep of each split, stratified; None keeps all.
        train_per_class: Number of training rows to keep of each class; None keeps all.
        seed: Seed of the rows that are held out and kept, 0..2**32-1.
        skip: Whether to leave rows with an empty text out instead of refusing them.

    Raises:
        ConfigError: If the arrays cannot be used; it says what they should be.
    """
    arrays = _read(Path(path).expanduser(), path)
    keys = _keys(arrays, path, "train")
    problems: list[str] = []
    inputs = {part: checked_inputs(x, arrays[x], problems) for part, (x, _) in keys.items()}
    for x, y in keys.values():
        problems += _unequal(arrays, x, y)
    if problems:
        raise ConfigError(problems)
    require_rows(path, {part: len(array) for part, array in inputs.items()})
    kinds = {array.dtype == object for array in inputs.values()}
    shapes = {array.shape[1:] for array in inputs.values()}
    if len(kinds) > 1 or len(shapes) > 1:
        received = ", ".join(f"{x} {arrays[x].shape} {arrays[x].dtype}" for x, _ in keys.values())
        raise ConfigError(
            f"dataset.path must have examples of one kind and shape. Received: {received}. "
            "Store all splits in the same way."
        )
    targets = {part: arrays[y] for part, (_, y) in keys.items()}
    names = {part: y for part, (_, y) in keys.items()}
    labels, classes = labels_of(names, targets, arrays.get("classes"))
    require_classes("dataset.path", path, classes)
    return assemble(
        "arrays",
        Path(path).expanduser().resolve().name,
        classes,
        {part: rows_of(part, x, inputs[part], labels[part]) for part, (x, _) in keys.items()},
        kind="text" if inputs["train"].dtype == object else "image",
        max_samples=max_samples,
        train_per_class=train_per_class,
        seed=seed,
        skip=skip,
        found=Found(
            {part: x for part, (x, _) in keys.items()},
            notes=one_hot_note(names, targets, labels),
        ),
    )


def arrays_part(path: str, part: str) -> Part:
    """Reads a single split: x_part and y_part, or all of x and y.

    Args:
        path: FILE.npz.
        part: Name of the split: train, validation or test.

    Raises:
        ConfigError: As for `load_arrays`; also if there are other splits but not this one.
    """
    arrays = _read(Path(path).expanduser(), path)
    x, y = _keys(arrays, path, part)[part]
    problems: list[str] = []
    inputs = checked_inputs(x, arrays[x], problems)
    problems += _unequal(arrays, x, y)
    if problems:
        raise ConfigError(problems)
    named = arrays.get("classes")
    labels = column_of(arrays[y])
    if named is None and labels.dtype.kind in "uib" and labels.ndim == 1:
        named = np.asarray([str(index) for index in range(int(labels.max(initial=0)) + 1)])
    targets, classes = labels_of({part: y}, {part: labels}, named)
    return Part(
        Path(path).expanduser().resolve().name,
        None if x == "x" else part,
        classes,
        rows_of(part, x, inputs, targets[part]),
        "text" if inputs.dtype == object else "image",
        Found({part: x}, notes=one_hot_note({part: y}, {part: arrays[y]}, targets)),
    )


def _unequal(arrays: Mapping[str, np.ndarray], x: str, y: str) -> list[str]:
    if arrays[x].ndim and arrays[y].ndim and len(arrays[x]) == len(arrays[y]):
        return []
    return [
        f"dataset.path: {x} and {y} must have the same length. Received: shapes "
        f"{arrays[x].shape} and {arrays[y].shape}. Store one label for each example."
    ]


def rows_of(part: str, name: str, inputs: np.ndarray, labels: np.ndarray) -> Rows:
    """Returns the rows of a split; rows without a text are bad samples."""
    sources = row_names(name, len(inputs))
    if inputs.dtype != object:
        return Rows(inputs, labels, sources)
    reasons = [text_reason(text) for text in inputs]
    bad = [BadSample(part, sources[row], why) for row, why in enumerate(reasons) if why]
    good = np.asarray([why is None for why in reasons], bool)
    return Rows(inputs[good], labels[good], sources[good], bad)


def _read(file: Path, given: str) -> dict[str, np.ndarray]:
    if not os.path.isfile(file) or (file.suffix.lower() != ".npz" and not _is_npz(file)):
        raise ConfigError(f"{_WHERE}. Received: {given}, {what_it_is(file, 'arrays')} {_LAYOUT}")
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        budget = memory_budget()
        if size > budget:
            raise ConfigError(
                "dataset.path must be arrays that fit into half of the free memory. Received: "
                f"{given} of {size / 2**30:.1f} GiB, more than the {budget / 2**30:.1f} GiB available. "
                "Store fewer examples, or images as files."
            )
        with np.load(file, allow_pickle=False) as loaded:  # a pickle could run code
            return {name: _array(loaded, name, given) for name in loaded.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        said = (str(error).splitlines() or ["damaged"])[0]
        raise ConfigError(
            f"{_WHERE}. Received: {given} ({said}). Write it with numpy.savez."
        ) from error


def _is_npz(file: Path) -> bool:
    """Returns whether a file with another suffix is an archive of arrays."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _array(loaded: Any, name: str, given: str) -> np.ndarray:
    try:
        array = loaded[name]
        if not isinstance(array, np.ndarray):  # NumPy returns the bytes of any other file
            raise ValueError(f"{name} is not an array")
        return array
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ConfigError(
            f"dataset.path must have arrays of numbers or str. Received: {given}, whose {name} is "
            "an array of Python objects. Store texts with numpy.asarray(texts, dtype=str), and "
            "images of one size."
        ) from error


def _keys(arrays: Mapping[str, np.ndarray], given: str, lead: str) -> dict[str, tuple[str, str]]:
    """Returns the names of x and y of each split; `lead` must be among them, by name or unnamed."""
    problems: list[str] = []
    found: dict[str, dict[str, list[str]]] = {}
    for name in arrays:
        kind, _, suffix = name.lower().partition("_")
        split = split_of(suffix) if suffix else lead
        if name == "classes":
            continue
        if kind not in ("x", "y") or split is None:
            valid = ["x", "y", "classes", *(f"{k}_{part}" for part in SPLITS for k in "xy")]
            expected = "x, y or classes of a split"
            problems.append(unknown_name("dataset.path: an array", expected, name, valid))
        else:
            found.setdefault(split, {"x": [], "y": []})[kind].append(name)
    for part, names in found.items():
        if max(map(len, names.values())) > 1:
            double = [name for alike in names.values() if len(alike) > 1 for name in alike]
            problems.append(
                f"dataset.path must have one x and one y for {part}. Received: {given} with "
                f"{' and '.join(double)}. Keep one of them."
            )
        elif not all(names.values()):
            (there,) = names["x"] or names["y"]
            lacking = f"{'y' if names['x'] else 'x'}{there[1:]}"
            problems.append(
                f"dataset.path must have both {min(there, lacking, key=str.lower)} and "
                f"{max(there, lacking, key=str.lower)}. Received: {given} with only {there}. "
                "Store the other one too."
            )
    if not problems and lead not in found:
        problems.append(f"{_WHERE}. Received: {given} without x_{lead} and y_{lead}. {_LAYOUT}")
    if problems:
        raise ConfigError(problems)
    return {part: (found[part]["x"][0], found[part]["y"][0]) for part in SPLITS if part in found}


def checked_inputs(
    name: str, array: np.ndarray, problems: list[str], where: str = "dataset.path"
) -> np.ndarray:
    """Returns examples as a dataset holds them: texts as objects, images with channels.

    Args:
        name: Name of the array, for messages.
        array: The examples.
        problems: Gets a message for an array that is neither.
        where: What messages call the dataset.
    """
    if array.dtype.kind == "U" and array.ndim == 1:
        return object_array(array.tolist())
    if array.dtype.kind not in "uif" or not (
        array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))
    ):
        problems.append(
            f"{where}: {name} must be images {_IMAGES}. Received: shape {array.shape} of "
            f"{array.dtype}. Reshape or convert it."
        )
        return array
    images = array[..., None] if array.ndim == 3 else array
    if images.dtype == np.uint8 or images.size == 0:
        return images
    low, high = images.min(), images.max()  # NaN if there is one
    scaled = images.dtype.kind == "f" and high <= 1
    if not (low >= 0 and high <= 255) or scaled:
        problems.append(
            f"{where}: {name} must be images in 0..255. Received: values {low}..{high}. "
            f"{'Multiply them by 255' if scaled else 'Store them as uint8'}, without NaN: the "
            "backbone's own preprocessing follows."
        )
    return images.astype(np.float32 if images.dtype.kind == "f" else np.uint8, copy=False)

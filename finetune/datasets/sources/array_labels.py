"""Labels in the arrays of a NumPy file: indices, names, or 0 and 1 for each class."""

from collections.abc import Mapping

import numpy as np

from finetune.datasets.labels import indices, is_one_hot, listed
from finetune.datasets.names import plain
from finetune.errors import ConfigError


def labels_of(
    names: Mapping[str, str],
    targets: Mapping[str, np.ndarray],
    given: np.ndarray | None,
    where: str = "dataset.path",
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the labels of each split as indices, and the class names.

    Rows of 0 and 1 with exactly one 1 each, in all splits, are one-hot. They become indices, as for
    the labels given to FineTuner.

    Args:
        names: Name of the array of each split; the first array determines the kind of labels.
        targets: Array of each split.
        given: Class names, (classes,) of type str; None takes those of the first array.
        where: Name of the dataset in messages.

    Raises:
        ConfigError: If the labels are of no such kind, or differ between splits.
    """
    targets = {part: _plain(array) for part, array in targets.items()}
    train = column_of(next(iter(targets.values())))
    problems = [
        _float_labels(f"{where}: {names[part]}", array)
        for part, array in targets.items()
        if array.dtype.kind == "f" and column_of(array).ndim == 1
    ]
    if problems:
        raise ConfigError(problems)
    given = None if given is None else _plain(given)
    if given is None:
        if train.dtype.kind in "uib" and train.ndim == 1:
            _require_all_classes(f"{where}: {next(iter(names.values()))}", train)
        classes = _own_classes(train)
    elif given.dtype.kind == "U" and given.ndim == 1 and len(set(given.tolist())) == len(given):
        classes = given.tolist()
    else:
        raise ConfigError(
            f"{where}: classes must be different names, (classes,) of type str. Received: "
            f"{given.tolist()} of {given.dtype}. Store numpy.asarray(names, dtype=str), with names "
            "that differ in more than white space and the encoding of accents."
        )
    done = {}
    for part, array in targets.items():
        array = column_of(array)
        place = f"{where}: {names[part]}"
        if array.dtype.kind == "U" and array.ndim == 1 and train.dtype.kind == "U":
            done[part] = indices(place, array.tolist(), classes)
        elif array.dtype.kind in "uib" and array.ndim == 1 and train.ndim == 1:
            problems += _out_of_range(place, array, len(classes))
            done[part] = array.astype(np.int64)
        elif array.ndim == 2 and array.shape[1] == len(classes) and train.ndim == 2:
            if not np.isin(array, (0, 1)).all():
                problems.append(
                    f"{place} must be 0 or 1 for each class. Received: other values in rows "
                    f"{listed(np.flatnonzero(~np.isin(array, (0, 1)).all(1)))}. Fix these labels."
                )
            else:
                done[part] = array.astype(np.uint8)
        else:
            problems.append(
                f"{place} must be class indices (n,) of an integer type, names (n,) of type str, "
                f"or 0 and 1 of shape (n, {len(classes)}), the same in all splits. Received: shape "
                f"{array.shape} of {array.dtype}. Convert the array."
            )
    if problems:
        raise ConfigError(problems)
    if all(map(is_one_hot, done.values())):
        done = {part: array.argmax(axis=1).astype(np.int64) for part, array in done.items()}
    return done, classes


def one_hot_note(
    names: Mapping[str, str], targets: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Returns a note about rows of 0 and 1 that were read as one label per example.

    Args:
        names: Name of the array of each split.
        targets: Array of each split.
        labels: Labels that `labels_of` made of them.
    """
    hot = [
        names[part]
        for part, array in targets.items()
        if column_of(array).ndim == 2 and labels[part].ndim == 1
    ]
    if not hot:
        return ()
    return (
        f"labels of {', '.join(hot)} are one-hot: every row has one 1, so each example has one label. "
        "For multi-label data at least one row must have no 1 or more than one",
    )


def _require_all_classes(where: str, train: np.ndarray) -> None:
    """Refuses class numbers with gaps, which no training example would fill."""
    found = np.unique(train)
    if len(found) and found[0] >= 0 and found[-1] != len(found) - 1:
        raise ConfigError(
            f"{where} must number the classes 0..{len(found) - 1}, each with a training example. "
            f"Received: {len(found)} numbers from {found[0]} to {found[-1]}. Number them without "
            "gaps, store names (str), or name all classes in an array classes."
        )


def _plain(array: np.ndarray) -> np.ndarray:
    """Returns names as `finetune.datasets.names.plain` writes them, other arrays unchanged."""
    if array.dtype.kind != "U" or not array.size:
        return array
    return np.asarray([plain(name) for name in array.ravel().tolist()]).reshape(array.shape)


def _float_labels(where: str, array: np.ndarray) -> str:
    """Returns the error for labels that are floats, which may be classes or measurements."""
    name = where.rpartition(" ")[2]
    wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.round(array))).ravel())
    fix = f"Store {name}.astype('int64')"
    if len(wrong):
        fix = (
            f"Row {wrong[0]} is {array.ravel()[wrong[0]]:g}, which is not a class index. Store "
            "classes, for example ranges of values with numpy.digitize: regression is not supported"
        )
    return (
        f"{where} must be class indices (n,) of an integer type, names (n,) of type str, or 0 and 1 "
        f"for each class. Received: shape {array.shape} of {array.dtype}. {fix}."
    )


def column_of(array: np.ndarray) -> np.ndarray:
    """Returns (n, 1) as (n,): labels of Keras' own datasets have this shape."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _own_classes(train: np.ndarray) -> list[str]:
    if train.dtype.kind == "U":
        return sorted(set(train.ravel().tolist()))
    if train.ndim == 2:
        return [str(index) for index in range(train.shape[1])]
    whole = train.dtype.kind in "uib" and train.size > 0
    return [str(index) for index in range(int(train.max()) + 1)] if whole else []


def _out_of_range(where: str, array: np.ndarray, number: int) -> list[str]:
    wrong = np.flatnonzero((array < 0) | (array >= number))
    if not len(wrong):
        return []
    return [
        f"{where} must be class indices in 0..{number - 1}. Received: other values in rows "
        f"{listed(wrong)}. Fix these labels; the first row is 0."
    ]

"""Proof that what a phase holds still did not move: a digest of each weight, before and after."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from finetune.errors import FrozenWeightsError
from finetune.freezing.inventory import as_array


def digests(variables: Mapping[str, Any], paths: Sequence[str]) -> dict[str, str]:
    """Returns the sha256 of the bytes, shape and dtype of each named weight."""
    values = [as_array(variables[path]) for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases Python's lock
        return dict(zip(paths, pool.map(_digest, values), strict=True))


def _digest(value: np.ndarray) -> str:
    result = hashlib.sha256(f"{value.dtype}{value.shape}".encode())
    contiguous = np.ascontiguousarray(value)
    result.update(contiguous.view(np.uint8).data if value.ndim else value.tobytes())
    return result.hexdigest()


def combine(each: Mapping[str, str]) -> str:
    """Returns one sha256 over all paths and their digests, in path order."""
    lines = "".join(f"{path} {each[path]}\n" for path in sorted(each))
    return hashlib.sha256(lines.encode()).hexdigest()


def require_unchanged(phase: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Fails where a weight that had to hold still has moved.

    Raises:
        FrozenWeightsError: naming the weights.
    """
    changed = [path for path in before if before[path] != after[path]]
    if changed:
        shown = ", ".join(changed[:10]) + (" …" if len(changed) > 10 else "")
        raise FrozenWeightsError(
            f"phase {phase} must hold its {len(before)} frozen weights still. Received: "
            f"{len(changed)} changed ({shown}). Something outside the optimizer wrote to them; "
            "the model of this phase is not saved."
        )


def require_same(phase: str, now: Mapping[str, str], combined: str) -> None:
    """Fails where what a phase holds still is not what it was when the phase began.

    Raises:
        FrozenWeightsError: for a checkpoint that does not fit the pretrained weights.
    """
    if combine(now) != combined:
        raise FrozenWeightsError(
            f"phase {phase} must go on with the frozen weights that it began with. Received: "
            "others. The pretrained weights, or the checkpoint, are of another run."
        )

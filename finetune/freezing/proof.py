"""Proof that the weights that a phase holds did not change: digests of them, before and after."""

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


def combine(digests_by_path: Mapping[str, str]) -> str:
    """Returns one sha256 over all paths and their digests, in path order."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests_by_path.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def require_unchanged(phase: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Fails if a weight that the phase holds has changed.

    Raises:
        FrozenWeightsError: With the paths of these weights.
    """
    changed = [path for path in before if before[path] != after[path]]
    if changed:
        shown = ", ".join(changed[:10]) + (" …" if len(changed) > 10 else "")
        raise FrozenWeightsError(
            f"phase {phase} must not change its {len(before)} held weights. Received: "
            f"{len(changed)} changed ({shown}). Something outside the optimizer wrote to them; "
            "the model of this phase is not saved."
        )


def require_same(phase: str, now: Mapping[str, str], combined: str) -> None:
    """Fails if the held weights are not those that the phase started with.

    Raises:
        FrozenWeightsError: If a checkpoint does not fit the pretrained weights.
    """
    if combine(now) != combined:
        raise FrozenWeightsError(
            f"phase {phase} must resume with the held weights that it started with. Received: "
            "other weights. The pretrained weights or the checkpoint belong to another run."
        )

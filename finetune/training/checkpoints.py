"""Checkpoints: everything a run has learned so far, in one directory that is whole or absent."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from finetune.freezing.inventory import HEAD, Inventory, as_array
from finetune.training.optimizers import OptimizerGroups


def save(
    directory: Path,
    inventory: Inventory,
    moved: Collection[str],
    optimizers: OptimizerGroups,
    state: dict[str, Any],
) -> Path:
    """Writes ``directory/last`` anew: weights.npz, optimizer.npz and state.json.

    A backbone weight that every phase so far has held still is not written: it is where it was
    loaded from.

    Args:
        directory: the run's ``checkpoints``.
        inventory: whose weights are saved, by path.
        moved: paths of the weights that a phase so far did not hold still.
        optimizers: whose state is saved.
        state: plain values: phase, epoch, seed.

    Returns:
        The directory written.
    """
    target, fresh, old = (directory / name for name in ("last", "last.new", "last.old"))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    weights = {
        info.path: as_array(inventory.variables[info.path])
        for info in inventory.infos
        if info.stage == HEAD or info.path in moved
    }
    _write(fresh / "weights.npz", weights)
    _write(fresh / "optimizer.npz", optimizers.state())
    (fresh / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _write(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())

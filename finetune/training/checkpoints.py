"""Checkpoints: everything a run has learned so far, in one directory that is whole or absent."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from finetune.freezing.inventory import Inventory, to_numpy
from finetune.training.optimizers import OptimizerGroups


def save(
    directory: Path, inventory: Inventory, optimizers: OptimizerGroups, state: dict[str, Any]
) -> Path:
    """Writes ``directory/last`` anew: weights.npz, optimizer.npz and state.json.

    Args:
        directory: the run's ``checkpoints``.
        inventory: whose weights are saved, by path.
        optimizers: whose state is saved.
        state: plain values: phase, epoch, seed.

    Returns:
        The directory written.
    """
    target, fresh, old = (directory / name for name in ("last", "last.new", "last.old"))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    weights = {path: to_numpy(variable) for path, variable in inventory.variables.items()}
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

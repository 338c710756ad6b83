"""What a run must not ask of stored features; each rule gives a message or None."""

import os
from pathlib import Path

import numpy as np

from finetune.errors import ConfigError
from finetune.features.cut import LinearHead
from finetune.features.entries import FeatureSettings
from finetune.features.own_code import own_steps
from finetune.features.store import LOCKS
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.schedule.phase import Phase


def exact_head_problem(
    phase: Phase,
    plan: FreezePlan,
    head: LinearHead | None,
    inventory: Inventory,
    targets: np.ndarray,
    settings: FeatureSettings,
) -> str | None:
    """Returns why a phase cannot be solved by lbfgs.

    Args:
        phase: any; those that are not to be solved have no problem.
        plan: of the phase.
        head: the head, where it is linear in frozen features.
        inventory: of the task model.
        targets: of the training split.
        settings: of the store.
    """
    if phase.solver != "lbfgs":
        return None
    where = f"schedule.phases.{phase.name}.solver must be gradient"
    trainable = {id(inventory.variables[path]) for path in plan.trainable}
    if steps := own_steps(inventory.model):
        return (
            f"{where} for a model with {', '.join(steps)} of its own, which the solver does not run. "
            "Received: lbfgs. Set solver=gradient."
        )
    if head is not None and head.terms:
        return (
            f"{where} where the head has a constraint, a regularizer, LoRA or a quantised "
            f"kernel, which the solver does not obey. Received: lbfgs with {', '.join(head.terms)}. Set "
            "solver=gradient, or build the head without them."
        )
    if head is None or not trainable.issuperset(map(id, head.weights)):
        return (
            f"{where} unless the phase trains a linear head on frozen features. Received: lbfgs "
            f"with {phase.rule}. Use freeze.policy=depth with unfreeze_depth=0, or solver=gradient."
        )
    if targets.ndim > 1:
        return (
            f"{where} where an example may have several labels or a share of some. Received: "
            "lbfgs. Set solver=gradient."
        )
    if len(np.unique(targets)) < 2:
        return (
            f"{where} where the training split has one class only. Received: lbfgs with "
            f"{len(targets)} examples. Raise dataset.max_samples."
        )
    if settings.cache == "never" or not settings.training_views:
        return (
            f"{where} where no features are stored. Received: lbfgs with features.cache="
            f"{settings.cache}, features.views={settings.views}. Set features.cache=auto, and "
            "features.views where the data are augmented."
        )
    return None


def views_problem(settings: FeatureSettings) -> str | None:
    """Returns why a training split that must be stored cannot be."""
    if settings.cache != "always" or settings.training_views:
        return None
    return (
        "features.views must be at least 1 to store an augmented training split. Received: "
        f"{settings.views} with features.cache=always. Set features.views to the number of epochs "
        "for exact training, or to fewer views that epochs share."
    )


def require_writable(directory: Path) -> None:
    """Makes the directory of the store, and that of its locks.

    Raises:
        ConfigError: if it cannot be made or written.
    """
    try:
        for each in (directory, directory / LOCKS):
            each.mkdir(parents=True, exist_ok=True)
            if not os.access(each, os.W_OK | os.X_OK):
                raise PermissionError(f"{each} is not writable")
    except OSError as error:
        raise ConfigError(
            f"features.dir must be a directory that can be written. Received: {directory} "
            f"({error}). Set features.dir, or features.cache=never."
        ) from error

"""Optimizer state that survives phases: one Keras optimizer for each group of weights.

A group holds the weights of one stage that train in the same phases. Its optimizer is made once
and steps only while its weights train, so moments are kept over any freeze and thaw, and Adam's
bias correction counts the updates that these weights had: a newly unfrozen weight starts like a
new one (Kingma & Ba 2015, section 3). `keras.optimizers.MultiOptimizer` joins the groups of a phase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from finetune.freezing.inventory import Inventory, to_numpy
from finetune.freezing.plan import FreezePlan


@dataclass(frozen=True)
class OptimizerSettings:
    """A Keras optimizer by name; None leaves Keras' default.

    Args:
        name: ``adamw``, ``adam``, ``sgd``, ``rmsprop`` or ``lion``.
        weight_decay: at least 0; not applied to biases and normalization weights.
        momentum: for sgd and rmsprop, [0, 1).
        beta_1: first-moment decay, [0, 1).
        beta_2: second-moment decay, [0, 1).
        epsilon: added to the denominator, above 0.
        clipnorm: largest norm of each weight's gradient, above 0.
    """

    name: str = "adamw"
    weight_decay: float | None = None
    momentum: float | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    epsilon: float | None = None
    clipnorm: float | None = None

    def make(self, learning_rate: float) -> keras.optimizers.Optimizer:
        """Returns a new optimizer."""
        classes = {
            "adamw": keras.optimizers.AdamW,
            "adam": keras.optimizers.Adam,
            "sgd": keras.optimizers.SGD,
            "rmsprop": keras.optimizers.RMSprop,
            "lion": keras.optimizers.Lion,
        }
        given = {k: v for k, v in asdict(self).items() if v is not None and k != "name"}
        return classes[self.name](learning_rate=learning_rate, **given)


class OptimizerGroups:
    """The optimizers of a whole schedule.

    Args:
        settings: of every group.
        plans: one for each phase, in order.
        inventory: the weights.
    """

    def __init__(
        self, settings: OptimizerSettings, plans: Sequence[FreezePlan], inventory: Inventory
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._group_of: dict[str, tuple[str, tuple[bool, ...]]] = {}
        sets = [plan.trainable for plan in plans]
        for info in inventory.infos:
            phases = tuple(info.path in trainable for trainable in sets)
            if any(phases):
                self._group_of[info.path] = (info.stage, phases)
        self._optimizers: dict[tuple[str, tuple[bool, ...]], keras.optimizers.Optimizer] = {}
        self._joined: dict[frozenset[str], keras.optimizers.MultiOptimizer] = {}

    def for_phase(self, plan: FreezePlan, rates: Mapping[str, float]) -> keras.optimizers.Optimizer:
        """Returns the optimizer to compile a phase with.

        Args:
            plan: of the phase; one of those given at construction.
            rates: learning rate of each stage.
        """
        chosen: dict[int, keras.optimizers.Optimizer] = {}
        for path in plan.trainable:
            group = self._group_of[path]
            if group not in self._optimizers:
                self._optimizers[group] = self._make(group, rates[group[0]])
            optimizer = self._optimizers[group]
            optimizer.learning_rate = rates[group[0]]
            chosen[id(self._inventory.variables[path])] = optimizer
        if plan.trainable not in self._joined:
            joined = keras.optimizers.MultiOptimizer(lambda variable: chosen[id(variable)])
            self._joined[plan.trainable] = joined
        return self._joined[plan.trainable]

    def restart(self) -> None:
        """Puts every optimizer back to its start: no moments, no updates counted."""
        for optimizer in (*self._optimizers.values(), *self._joined.values()):
            rate = getattr(optimizer, "_learning_rate", None)
            for variable in optimizer.variables:
                if variable is not rate:  # every slot of Keras' optimizers starts at zero
                    variable.assign(np.zeros(variable.shape, variable.dtype))

    def of_weight(self, path: str) -> keras.optimizers.Optimizer:
        """Returns the optimizer of a weight that trains in the phase last asked for."""
        return self._optimizers[self._group_of[path]]

    def _make(self, group: tuple[str, tuple[bool, ...]], rate: float) -> Any:
        optimizer = self._settings.make(rate)
        members = [i for i in self._inventory.infos if self._group_of.get(i.path) == group]
        variables = self._inventory.variables
        undecayed = [variables[i.path] for i in members if i.is_bias or i.is_norm]
        if undecayed and optimizer.weight_decay:
            optimizer.exclude_from_weight_decay(var_list=undecayed)
        optimizer.build([variables[i.path] for i in members])
        return optimizer

    def state(self) -> dict[str, Any]:
        """Returns every optimizer variable by group and name, as NumPy arrays."""
        result = {}
        for (stage, phases), optimizer in self._optimizers.items():
            prefix = f"{stage}:{''.join(str(int(on)) for on in phases)}"
            for index, variable in enumerate(optimizer.variables):
                value = to_numpy(variable)
                result[f"{prefix}/{index}/{variable.path}"] = value
        return result

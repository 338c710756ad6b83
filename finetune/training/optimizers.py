"""Optimizer state that survives phases: one Keras optimizer for each group of weights.

A group holds the weights of one stage that train in the same phases. Its optimizer is made once and
steps only while its weights train. Moments therefore survive any freezing and unfreezing, and Adam's
bias correction counts the updates of these weights: a newly unfrozen weight starts like a new one
(Kingma & Ba 2015, section 3). `keras.optimizers.MultiOptimizer` joins the groups of a phase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from finetune.freezing.inventory import Inventory, to_numpy
from finetune.freezing.plan import FreezePlan
from finetune.keras_internals import rate_variable


@dataclass(frozen=True)
class OptimizerSettings:
    """A Keras optimizer by name; None keeps the default of Keras.

    Args:
        name: Name of the optimizer: ``adamw``, ``adam``, ``sgd``, ``rmsprop`` or ``lion``.
        weight_decay: Weight decay, at least 0; not applied to biases and normalization weights.
        momentum: Momentum of sgd and rmsprop, in [0, 1).
        beta_1: Decay of the first moments, in [0, 1).
        beta_2: Decay of the second moments, in [0, 1).
        epsilon: Number that is added to the denominator, above 0.
        clipnorm: Largest norm of the gradient of each weight, above 0.
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
    """Optimizers of a whole schedule.

    Args:
        settings: Settings of every group.
        plans: Freeze plan of each phase, in order.
        inventory: Inventory of the weights.
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
        self._slots: dict[tuple[str, tuple[bool, ...]], dict[str, dict[str, Any]]] = {}
        self._joined: dict[frozenset[str], keras.optimizers.MultiOptimizer] = {}

    def for_phase(self, plan: FreezePlan, rates: Mapping[str, float]) -> keras.optimizers.Optimizer:
        """Returns the optimizer with which to compile a phase.

        Args:
            plan: Plan of the phase, one of those passed to the constructor.
            rates: Learning rate of each stage.
        """
        chosen: dict[int, keras.optimizers.Optimizer] = {}
        for path in plan.trainable:
            group = self._group_of[path]
            if group not in self._optimizers:
                self._optimizers[group] = self._make(group)
            optimizer = self._optimizers[group]
            optimizer.learning_rate = rates[group[0]]
            chosen[id(self._inventory.variables[path])] = optimizer
        if plan.trainable not in self._joined:

            def of(variable: Any) -> Any:  # not a lambda: Keras warns where it saves one
                return chosen[id(variable)]

            joined = keras.optimizers.MultiOptimizer(of)
            self._joined[plan.trainable] = joined
        return self._joined[plan.trainable]

    def restart(self) -> None:
        """Resets every optimizer: no moments, no updates."""
        for optimizer in (*self._optimizers.values(), *self._joined.values()):
            rate = rate_variable(optimizer)
            for variable in optimizer.variables:
                if variable is not rate:  # every slot of Keras' optimizers starts at zero
                    variable.assign(np.zeros(variable.shape, variable.dtype))

    def slots(self, path: str) -> dict[str, Any]:
        """Returns the optimizer variables of a weight that has trained, by slot."""
        return self._slots_of(self._group_of[path])[path]

    def state(self) -> dict[str, np.ndarray]:
        """Returns the optimizer state of each weight that has trained, by ``SLOT:PATH``.

        The slots are those of Keras (``momentum``, ``velocity``, …), and ``iterations``: the number
        of updates of the weight.
        """
        result = {}
        for group, optimizer in self._optimizers.items():
            for path, slots in self._slots_of(group).items():
                result[f"iterations:{path}"] = to_numpy(optimizer.iterations)
                result |= {f"{slot}:{path}": to_numpy(value) for slot, value in slots.items()}
        return result

    def load(self, state: Mapping[str, np.ndarray]) -> list[str]:
        """Restores what `state` returned, even if another schedule had other groups.

        The number of updates of a group is the smallest of its weights, so a group starts over if
        one of its weights has never trained.

        Returns:
            The slots without a value, or with a value of another shape, which start over.
        """
        lacking = []
        for group in dict.fromkeys(self._group_of.values()):
            paths = self._members(group)
            counts = [state.get(f"iterations:{path}") for path in paths]
            if all(count is None for count in counts):
                continue  # it has not trained yet
            if group not in self._optimizers:
                self._optimizers[group] = self._make(group)
            iterations: Any = self._optimizers[group].iterations
            iterations.assign(min(0 if c is None else int(c) for c in counts))
            for path, slots in self._slots_of(group).items():
                for slot, variable in slots.items():
                    value = state.get(f"{slot}:{path}")
                    if value is None or value.shape != tuple(variable.shape):
                        lacking.append(f"{slot}:{path}")
                    else:
                        variable.assign(value)
        return lacking

    def _slots_of(self, group: tuple[str, tuple[bool, ...]]) -> dict[str, dict[str, Any]]:
        if group not in self._slots:
            weights = {path: self._inventory.variables[path] for path in self._members(group)}
            self._slots[group] = slots_of(self._optimizers[group], weights)
        return self._slots[group]

    def _members(self, group: tuple[str, tuple[bool, ...]]) -> list[str]:
        return [path for path, other in self._group_of.items() if other == group]

    def _make(self, group: tuple[str, tuple[bool, ...]]) -> Any:
        optimizer = self._settings.make(0.0)  # the rate is the phase's
        members = [i for i in self._inventory.infos if self._group_of.get(i.path) == group]
        variables = self._inventory.variables
        undecayed = [variables[i.path] for i in members if i.is_bias or i.is_norm]
        if undecayed and optimizer.weight_decay:
            optimizer.exclude_from_weight_decay(var_list=undecayed)
        optimizer.build([variables[i.path] for i in members])
        return optimizer


def slots_of(
    optimizer: keras.optimizers.Optimizer, weights: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Returns the optimizer variables of each weight by slot.

    Keras names them ``WEIGHT_SLOT``, and creates them in the order of the weights.

    Args:
        optimizer: A built optimizer.
        weights: All weights that it was built for, in that order, by path.
    """
    found: dict[str, dict[str, Any]] = {path: {} for path in weights}
    prefixes = {path: f"{w.path.replace('/', '_')}_" for path, w in weights.items()}
    shared = (optimizer.iterations, rate_variable(optimizer))
    for variable in optimizer.variables:
        if any(variable is other for other in shared):
            continue
        fitting = [path for path, prefix in prefixes.items() if variable.name.startswith(prefix)]
        longest = max(len(prefixes[path]) for path in fitting)
        slot = variable.name[longest:]
        owners = [p for p in fitting if len(prefixes[p]) == longest and slot not in found[p]]
        found[owners[0]][slot] = variable
    return found

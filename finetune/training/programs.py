"""Compiled steps and optimizers of one model, used again by later runs that differ in rates only.

Tracing a training step costs more than training a head. A rate is a variable of the optimizer, so a
run that differs in nothing else starts from the same weights and the same optimizer state, and calls
what the run before has compiled.
"""

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from finetune.features.cut import LinearHead, task_graph
from finetune.features.graph import Part
from finetune.freezing.inventory import Inventory, as_array, to_numpy
from finetune.freezing.plan import FreezePlan
from finetune.keras_internals import custom_gradients, forget_gradients
from finetune.tasks.objective import Objective
from finetune.training import scaling
from finetune.training.optimizers import OptimizerGroups, OptimizerSettings
from finetune.training.standardise import StandardisedHead

_COLLECTED_EVERY = 2  # compiled steps that others have replaced


class Programs:
    """What is made once for a model.

    Args:
        inventory: of the task model, as it was built.
        objective: what it is trained for.
        reused: whether other runs will follow; keeps a copy of all weights then.
    """

    def __init__(self, inventory: Inventory, objective: Objective, reused: bool = False) -> None:
        self.objective = objective
        self._inventory = inventory
        self._graph: Any = None
        self._has_graph = False
        self.parts: dict[Any, Part] = {}
        self._groups: OptimizerGroups | None = None
        self._groups_key: Any = None
        self._compiled: dict[int, Any] = {}
        self._heads: dict[str, StandardisedHead] = {}
        self._saved_heads: dict[str, np.ndarray] = {}
        self._num_replaced = 0
        self._known_gradients = custom_gradients()
        self._start = _values(inventory.model) if reused else None

    @property
    def graph(self) -> Any:
        """The task model taken apart, once; None where it cannot be."""
        if not self._has_graph:
            self._graph, self._has_graph = task_graph(self._inventory), True
        return self._graph

    def restore(self) -> None:
        """Puts every weight, random seed and optimizer variable back to where it started."""
        if self._start is None:
            raise ValueError("Programs must be made with reused=True to be restored.")
        for variable in self._inventory.model.variables:
            if not np.array_equal(as_array(variable), self._start[id(variable)]):
                variable.assign(self._start[id(variable)])
        if self._groups is not None:
            self._groups.restart()

    def standardised(self, head: LinearHead) -> StandardisedHead:
        """Returns what puts the head into standardised coordinates, the same one each time."""
        name = f"{head.first.path}+{head.dense.path}"
        if name not in self._heads:
            self._heads[name] = StandardisedHead(head)
            prefix = f"{name}:"
            saved = {k: v for k, v in self._saved_heads.items() if k.startswith(prefix)}
            if saved:
                self._heads[name].load({k.removeprefix(prefix): v for k, v in saved.items()})
        return self._heads[name]

    def heads(self) -> dict[str, np.ndarray]:
        """Returns the state of every standardised head, as ``HEAD:NAME``."""
        live = {
            f"{name}:{key}": value
            for name, head in self._heads.items()
            for key, value in head.state().items()
        }
        return self._saved_heads | live  # those of phases that are yet to come again too

    def load_heads(self, state: Mapping[str, np.ndarray]) -> None:
        """Lets heads begin where `heads` found them."""
        self._saved_heads = dict(state)

    def optimizers(
        self, settings: OptimizerSettings, plans: Sequence[FreezePlan]
    ) -> OptimizerGroups:
        """Returns the optimizers of a schedule, at their start."""
        key = (settings, tuple(plan.trainable for plan in plans))
        if self._groups is None or key != self._groups_key:
            self._groups = OptimizerGroups(settings, plans, self._inventory)
            self._groups_key = key
        return self._groups

    def compile(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        plan: FreezePlan,
        steps_per_execution: int,
        standardised: bool,
    ) -> None:
        """Compiles a model for a phase, unless it is compiled for just that already.

        Args:
            model: the task model or a part of it.
            optimizer: of the phase.
            plan: what trains, and which layers are held.
            steps_per_execution: as in Keras.
            standardised: whether the head is in standardised coordinates.
        """
        held = (plan.trainable, plan.inactive_stages, plan.held_layers)
        key = (id(optimizer), held, steps_per_execution, standardised)
        # A loss-scaling optimizer around ours has state of its own: it is made for each phase.
        if self._compiled.get(id(model)) == key and model.optimizer is optimizer:
            return
        replaced = id(model) in self._compiled
        model.compile(
            optimizer=scaling.scaled(optimizer, self._inventory.model),
            auto_scale_loss=False,
            loss=self.objective.loss(),
            metrics=self.objective.metrics(),
            steps_per_execution=steps_per_execution,
        )
        self._compiled[id(model)] = key
        self._forget_traced()
        self._num_replaced += replaced
        if replaced and self._num_replaced % _COLLECTED_EVERY == 0:
            gc.collect()  # graphs are cycles, which Python finds late; it takes 0.2 s

    def _forget_traced(self) -> None:
        """Lets go of the graphs of steps that were compiled before.

        TensorFlow registers a function for each traced call with a gradient of its own (silu; the
        sum over devices in each Keras optimizer), which holds the graph for as long as the process
        lives. It is looked up while a step is traced, never when the step runs.
        """
        forget_gradients(custom_gradients() - self._known_gradients)


def _values(model: keras.Model) -> dict[int, np.ndarray]:
    return {id(variable): to_numpy(variable) for variable in model.variables}

"""Compiled steps and optimizers of one model, reused by later runs that differ only in rates.

Tracing a training step costs more than training a head. A learning rate is a variable of the
optimizer, so a run that differs in nothing else starts from the same weights and the same optimizer
state, and calls what an earlier run has compiled.
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


class CompiledSteps:
    """Everything that is made once for a model and used by each of its phases and runs.

    Args:
        inventory: Inventory of the task model's weights, as it was built.
        objective: What the model is trained for.
        reused: Whether other runs will follow; a copy of all weights is kept then.
    """

    def __init__(self, inventory: Inventory, objective: Objective, reused: bool = False) -> None:
        self.objective = objective
        self.inventory = inventory
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
        """The graph of the task model, made once; None if the model has none."""
        if not self._has_graph:
            self._graph, self._has_graph = task_graph(self.inventory), True
        return self._graph

    def restore(self) -> None:
        """Restores every weight, random seed and optimizer variable to its first value."""
        if self._start is None:
            raise ValueError("CompiledSteps must be made with reused=True to be restored.")
        for variable in self.inventory.model.variables:
            if not np.array_equal(as_array(variable), self._start[id(variable)]):
                variable.assign(self._start[id(variable)])
        if self._groups is not None:
            self._groups.restart()

    def standardised(self, head: LinearHead) -> StandardisedHead:
        """Returns the object that puts a head into standardised coordinates; one for each head."""
        name = f"{head.first.path}+{head.dense.path}"
        if name not in self._heads:
            self._heads[name] = StandardisedHead(head)
            prefix = f"{name}:"
            saved = {k: v for k, v in self._saved_heads.items() if k.startswith(prefix)}
            if saved:
                self._heads[name].load({k.removeprefix(prefix): v for k, v in saved.items()})
        return self._heads[name]

    def heads(self) -> dict[str, np.ndarray]:
        """Returns the state of every standardised head, by ``HEAD:NAME``."""
        live = {
            f"{name}:{key}": value
            for name, head in self._heads.items()
            for key, value in head.state().items()
        }
        return self._saved_heads | live  # the saved ones of later phases too

    def load_heads(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `heads` returned; a head takes its part when it is first used."""
        self._saved_heads = dict(state)

    def optimizers(
        self, settings: OptimizerSettings, plans: Sequence[FreezePlan]
    ) -> OptimizerGroups:
        """Returns the optimizers of a schedule, before their first update."""
        key = (settings, tuple(plan.trainable for plan in plans))
        if self._groups is None or key != self._groups_key:
            self._groups = OptimizerGroups(settings, plans, self.inventory)
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
        """Compiles a model for a phase, unless it is already compiled for the same steps.

        Args:
            model: The task model or part of it.
            optimizer: Optimizer of the phase.
            plan: What trains, and which layers are held.
            steps_per_execution: As in `keras.Model.compile`.
            standardised: Whether the head is in standardised coordinates.
        """
        held = (plan.trainable, plan.inactive_stages, plan.held_layers)
        key = (id(optimizer), held, steps_per_execution, standardised)
        # A loss-scaling optimizer has its own state, so each phase gets a new one.
        if self._compiled.get(id(model)) == key and model.optimizer is optimizer:
            return
        replaced = id(model) in self._compiled
        model.compile(
            optimizer=scaling.scaled(optimizer, self.inventory.model),
            auto_scale_loss=False,
            loss=self.objective.loss(),
            metrics=self.objective.metrics(),
            steps_per_execution=steps_per_execution,
        )
        self._compiled[id(model)] = key
        self._forget_traced()
        self._num_replaced += replaced
        if replaced and self._num_replaced % _COLLECTED_EVERY == 0:
            gc.collect()  # graphs are cycles, which Python finds late; this takes 0.2 s

    def _forget_traced(self) -> None:
        """Releases the graphs of steps that were compiled before.

        For each traced call with a custom gradient (silu, or the sum over devices in each Keras
        optimizer), TensorFlow registers a function that keeps the graph alive until the process
        ends. It looks the function up while it traces a step, never when the step runs.
        """
        forget_gradients(custom_gradients() - self._known_gradients)


def _values(model: keras.Model) -> dict[int, np.ndarray]:
    return {id(variable): to_numpy(variable) for variable in model.variables}

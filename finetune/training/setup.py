"""What a trainer works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.record.schema import FeatureDecision
from finetune.schedule.phase import Phase
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.monitor import Monitor
from finetune.training.optimizers import OptimizerGroups, OptimizerSettings
from finetune.training.phase_data import PhaseDataSource


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """A model, its schedule and its data.

    Args:
        steps: Compiled steps of the model, which may be shared with earlier runs.
        phases: The schedule, in order.
        plans: Freeze plan of each phase.
        data: Batches of each phase, computed or read from stored features.
        optimizer: Settings of the optimizers.
        validation_labels: Labels of the validation split, in stored order.
        standardise: Whether linear heads on frozen features train in standardised coordinates.
        save_all_weights: Whether checkpoints also hold weights that never moved, because nobody
            else has them.
    """

    steps: CompiledSteps
    phases: tuple[Phase, ...]
    plans: tuple[FreezePlan, ...]
    data: PhaseDataSource
    optimizer: OptimizerSettings
    validation_labels: np.ndarray
    standardise: bool = True
    save_all_weights: bool = False

    @property
    def inventory(self) -> Inventory:
        """Inventory of the task model's weights."""
        return self.steps.inventory

    @cached_property
    def optimizers(self) -> OptimizerGroups:
        """Optimizers of the schedule, at their start."""
        return self.steps.optimizers(self.optimizer, self.plans)

    @cached_property
    def monitors(self) -> tuple[Monitor, ...]:
        """The monitored metric of each phase."""
        objective = self.steps.objective
        return tuple(Monitor(phase, objective, self.validation_labels) for phase in self.phases)

    def decisions(self) -> dict[str, FeatureDecision]:
        """Returns the final decisions about storing features, by the index of the phase."""
        decided: Mapping[int, FeatureDecision] = self.data.decided()
        return {str(index): decision for index, decision in decided.items()}

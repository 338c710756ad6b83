"""Counts of the weights and parameters of the root model, compared with what Keras reports."""

from dataclasses import dataclass

from finetune.errors import FinetuneError
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan, State

Count = dict[str, int]


@dataclass(frozen=True)
class WeightCounts:
    """The counts of one phase.

    Args:
        total: Counts ``{weights, parameters}`` of the whole model: ``trainable``, ``frozen``,
            ``untrainable``, ``non_trainable`` and ``total``.
        stages: The first three of these counts for each stage, from input to head.
        random_seeds: Number of state variables of random generators, which no other count includes.
    """

    total: dict[str, Count]
    stages: dict[str, dict[str, Count]]
    random_seeds: int


def count(plan: FreezePlan, inventory: Inventory) -> WeightCounts:
    """Counts the weights of the model after `apply`.

    Raises:
        FinetuneError: If the counts differ from ``model.trainable_weights`` or
            ``model.non_trainable_weights``.
    """
    stages = {name: {state.value: _zero() for state in State} for name in inventory.stage_names}
    total = {state.value: _zero() for state in State}
    for info in inventory.infos:
        state = plan.states[info.path].value
        for counts in (stages[info.stage][state], total[state]):
            counts["weights"] += 1
            counts["parameters"] += info.parameters
    total["non_trainable"] = _sum(total["frozen"], total["untrainable"])
    total["total"] = _sum(total["trainable"], total["non_trainable"])
    model = inventory.model
    for name, weights in (
        ("trainable", model.trainable_weights),
        ("non_trainable", model.non_trainable_weights),
        ("total", model.weights),
    ):
        if total[name]["weights"] != len(weights):
            raise FinetuneError(
                f"{name} weights must equal what Keras reports ({len(weights)}). "
                f"Received: {total[name]['weights']}. Was a flag set outside the plan?"
            )
    return WeightCounts(total, stages, len(model.variables) - len(model.weights))


def _zero() -> Count:
    return {"weights": 0, "parameters": 0}


def _sum(left: Count, right: Count) -> Count:
    return {key: left[key] + right[key] for key in left}

"""What a forward pass costs by stage, estimated from shapes alone."""

import math
from collections.abc import Mapping

from finetune.features.graph import Graph
from finetune.freezing.inventory import Inventory


def stage_work(inventory: Inventory, graph: Graph | None) -> Mapping[str, float]:
    """Returns the multiply-adds of one example by stage, from input to output.

    A matrix or kernel counts once for each position of its layer's output. Embedding tables are only
    looked up, which costs no arithmetic.

    Args:
        inventory: Inventory of the task model's weights.
        graph: The task model taken apart; None counts one position for every layer.
    """
    positions: dict[int, int] = {}
    for call in () if graph is None else graph.calls:
        shape = graph.specs[call.outputs[0]].shape if graph is not None and call.outputs else ()
        number = math.prod(size or 1 for size in shape[1:-1])
        for weight in getattr(call.operation, "weights", ()):
            positions[id(weight)] = positions.get(id(weight), 0) + number
    work = dict.fromkeys(inventory.stage_names, 0.0)
    for info in inventory.infos:
        weight = inventory.variables[info.path]
        if len(weight.shape) > 1 and not info.path.endswith("embeddings"):
            work[info.stage] += info.parameters * positions.get(id(weight), 1)
    return work

"""Learning rates over the stages of a model."""

from collections.abc import Sequence


def stage_rates(
    learning_rate: float, stage_lr_decay: float, stage_names: Sequence[str]
) -> dict[str, float]:
    """Returns the learning rate of each stage.

    Discriminative rates as in ULMFiT (Howard & Ruder 2018, section 3.2), stage by stage.

    Args:
        learning_rate: Rate of the head and of the topmost backbone stage.
        stage_lr_decay: Factor from the rate of one stage to the one below it.
        stage_names: Backbone stages from input to output, then the head.
    """
    *backbone, head = stage_names
    rates = {head: learning_rate}
    for distance, name in enumerate(reversed(backbone)):
        rates[name] = learning_rate * stage_lr_decay**distance
    return rates

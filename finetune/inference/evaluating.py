"""Evaluates a trained model on a split, with the metrics that its run computed on the test split."""

import numpy as np

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples, single_pass
from finetune.datasets.readers import (
    ArrayReader,
    ImageReader,
    Reader,
    TextReader,
    damage_named,
)
from finetune.errors import ConfigError
from finetune.evaluation.metrics import Report, report
from finetune.evaluation.named import with_named
from finetune.inference.predicting import forward
from finetune.inference.trained import TrainedModel


def evaluate(trained: TrainedModel, split: Split, kind: str, batch_size: int) -> Report:
    """Returns the metrics of a model on a split; see `finetune.evaluation.metrics.report`.

    Args:
        trained: Model to evaluate.
        split: Split whose label indices follow the order of the model's outputs.
        kind: Kind of its examples: ``image``, ``text`` or ``array``.
        batch_size: Number of examples per batch, at least 1.

    Raises:
        ConfigError: If the examples are of another kind or images cannot be decoded; the message
            names them.
    """
    if kind != trained.kind:
        raise ConfigError(
            f"dataset must hold {trained.kind}s, which the model takes. Received: {kind}s. Choose a "
            f"dataset of {trained.kind}s."
        )
    examples = Examples(split, _reader(trained, split), split.labels)
    run = forward(trained)
    with damage_named([split]):
        batches = single_pass(examples, batch_size=batch_size, view=None)
        outputs = np.concatenate([run(batch) for batch in batches])
    found = report(outputs, split.labels, trained.classes, trained.objective)
    record = trained.record
    names = [*(record.config.get("metrics") or ()), *(phase.monitor for phase in record.phases)]
    return with_named(found, names, outputs, split.labels, trained.objective)


def _reader(trained: TrainedModel, split: Split) -> Reader:
    if trained.image_size is not None:
        return ImageReader(trained.image_size, trained.image_converter)
    if trained.kind == "text":
        return TextReader(trained.preprocessor, {split.name: split})
    return ArrayReader()

"""What a phase is fitted on: a model, batches of its splits, and where these come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from finetune.datasets import pipeline
from finetune.datasets.pipeline import Examples
from finetune.features import batches
from finetune.features.batches import StoredExamples
from finetune.features.cut import LinearHead
from finetune.features.service import FeatureService
from finetune.record.schema import FeatureDecision


class TrainingBatches(Protocol):
    """Makes the batches that a phase trains on."""

    def __call__(self, first: int, last: int, skip: int = 0) -> tf.data.Dataset:
        """Returns the batches of some epochs.

        Args:
            first: Global number of the first epoch.
            last: The epoch after the last one.
            skip: Number of batches of the first epoch to leave out.
        """
        ...


@dataclass(frozen=True, eq=False)
class PhaseData:
    """What one phase is fitted on.

    Args:
        model: The task model, or its part above a cut; both share their weights.
        training: Makes the training batches of a range of epochs.
        validation: Makes the batches of the validation split.
        test: Makes the batches of the test split; None if the data of another phase has them.
        num_steps: Number of optimizer updates in one epoch.
        steps_per_execution: Number of optimizer updates in one call into TensorFlow.
        record: The entry ``features`` of the phase's record.
        head: The head, if it is linear in features that do not change during the phase.
        head_features: Yields those features of the training split as (rows, features) arrays.
        stored: The stored features by split; empty if the phase reads none.
    """

    model: keras.Model
    training: TrainingBatches
    validation: Callable[[], tf.data.Dataset]
    test: Callable[[], tf.data.Dataset] | None
    num_steps: int
    steps_per_execution: int = 1
    record: Mapping[str, Any] = field(default_factory=lambda: {"cached": False})
    head: LinearHead | None = None
    head_features: Callable[[], Iterator[np.ndarray]] | None = None
    stored: Mapping[str, StoredExamples] = field(default_factory=dict)


class PhaseDataSource(Protocol):
    """Gives the trainer the data of each phase."""

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> PhaseData:
        """Returns the data of a phase whose plan has been applied.

        Args:
            index: Index of the phase.
            progress: Called with (split, rows done, rows in all) while features are computed.
        """
        ...

    def decisions(self) -> list[FeatureDecision]:
        """Makes the decisions about stored features that can be made now; one for each phase."""
        ...

    def decided(self) -> dict[int, FeatureDecision]:
        """Returns the final decisions by index of the phase."""
        ...


@dataclass(frozen=True)
class SamePhaseData:
    """Gives every phase the same data, without stored features.

    Args:
        data: The data of every phase.
    """

    data: PhaseData

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> PhaseData:
        """See `PhaseDataSource`."""
        return self.data

    def decisions(self) -> list[FeatureDecision]:
        """See `PhaseDataSource`."""
        return []

    def decided(self) -> dict[int, FeatureDecision]:
        """See `PhaseDataSource`."""
        return {}


@dataclass(frozen=True)
class BatchSettings:
    """How a run makes batches.

    Args:
        batch_size: Number of rows in a batch.
        seed: Seed of the order of the rows.
        steps_per_execution: Number of optimizer updates in one call into TensorFlow.
    """

    batch_size: int
    seed: int
    steps_per_execution: int = 1


def phase_data(
    model: keras.Model,
    examples: Mapping[str, Examples] | Mapping[str, StoredExamples],
    settings: BatchSettings,
) -> PhaseData:
    """Returns the data of a phase that trains `model` on examples, or on stored features of them.

    Args:
        model: The task model, or its part above the cut of the stored features.
        examples: The splits: train, validation and, if there is one, test.
        settings: How batches are made.
    """
    train = examples["train"]
    maker: Any = batches if isinstance(train, StoredExamples) else pipeline

    def training(first: int, last: int, skip: int = 0) -> tf.data.Dataset:
        return maker.training_batches(
            train,
            batch_size=settings.batch_size,
            seed=settings.seed,
            first_epoch=first,
            last_epoch=last,
            skip=skip,
        )

    def evaluation(name: str) -> tf.data.Dataset:
        return maker.evaluation_batches(examples[name], batch_size=settings.batch_size)

    return PhaseData(
        model=model,
        training=training,
        validation=partial(evaluation, "validation"),
        test=partial(evaluation, "test") if "test" in examples else None,
        num_steps=train.num_steps(settings.batch_size),
        steps_per_execution=settings.steps_per_execution,
    )


class StoredPhaseData:
    """Gives phases stored features where these are worth it, and the examples themselves elsewhere.

    Args:
        features: The features of the run.
        computed: The data of a phase without stored features.
        settings: How batches are made.
    """

    def __init__(
        self, features: FeatureService, computed: PhaseData, settings: BatchSettings
    ) -> None:
        self._features, self._computed, self._settings = features, computed, settings

    def open(self, index: int, progress: Callable[[str, int, int], None]) -> PhaseData:
        """See `PhaseDataSource`.

        Raises:
            ConfigError: If `features.dtype` cannot hold the features.
        """
        found = self._features.open(index, progress)
        data = self._computed
        if found.model is not None:
            data = phase_data(found.model, found.stored, self._settings)
            if found.head is not None:  # its steps are short: one call runs a whole epoch
                data = replace(data, steps_per_execution=data.num_steps)
        return replace(
            data,
            record=found.record,
            head=found.head,
            head_features=found.head_features,
            stored=found.stored,
        )

    def decisions(self) -> list[FeatureDecision]:
        """See `PhaseDataSource`."""
        return self._features.decisions()

    def decided(self) -> dict[int, FeatureDecision]:
        """See `PhaseDataSource`."""
        return self._features.decided()

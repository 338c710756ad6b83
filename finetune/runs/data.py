"""What the phases of a run are fed with: batches of the splits, or stored features of them."""

import functools
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from finetune import __version__
from finetune.config.schema import Config
from finetune.datasets import pipeline
from finetune.features.entries import FeatureSettings
from finetune.features.feeding import Feed, Source
from finetune.features.service import FeatureService
from finetune.features.store import features_directory
from finetune.record.schema import FeatureDecision
from finetune.runs.build import Run


def direct_feed(run: Run, config: Config) -> Feed:
    """Returns what a phase is fed with that reads no features."""
    batch_size = config.dataset.batch_size
    examples = run.built.examples

    def training(first: int, last: int, skip: int = 0) -> Any:
        return pipeline.training_batches(
            examples["train"],
            batch_size=batch_size,
            seed=config.seed,
            first_epoch=first,
            last_epoch=last,
            skip=skip,
        )

    def evaluation(name: str) -> Any:
        return pipeline.evaluation_batches(examples[name], batch_size=batch_size)

    return Feed(
        model=run.built.inventory.model,
        training=training,
        validation=functools.partial(evaluation, "validation"),
        test=functools.partial(evaluation, "test") if "test" in examples else None,
        num_steps=examples["train"].num_steps(batch_size),
        steps_per_execution=config.runtime.steps_per_execution,
    )


def _source(examples: pipeline.Examples) -> Source:
    def inputs(batch_size: int, view: int | None) -> Any:
        return pipeline.single_pass(examples, batch_size=batch_size, view=view)

    return Source(
        num_examples=examples.num_examples,
        targets=examples.targets,
        inputs=inputs,
        fingerprint=examples.split.fingerprint,
        weights=examples.weights,
    )


def feature_service(
    run: Run,
    config: Config,
    direct: Feed,
    decided: Mapping[int, FeatureDecision] | None = None,
) -> FeatureService:
    """Returns what hands out the features of a run's phases, `direct` where they have none.

    Args:
        run: what has been built.
        config: checked.
        direct: what a phase is fed with that reads no features.
        decided: see `FeatureService`.

    Raises:
        ConfigError: for settings that no phase could read.
    """
    settings, built = config.features, run.built
    reader = built.examples["train"].reader
    return FeatureService(
        built.inventory,
        run.phases,
        run.plans,
        sources={name: _source(each) for name, each in built.examples.items()},
        settings=FeatureSettings(
            cache=settings.cache,
            directory=features_directory(settings.dir),
            max_bytes=int(settings.max_gib * 2**30),
            dtype=settings.dtype,
            views=settings.views,
            augmentation=reader.augmentation,
            mixed=reader.mix is not None,
            standardise=config.head.standardise == "auto",
        ),
        context={
            "preprocessing": built.origin.preprocessing_sha256,
            "precision": f"{built.device.kind} {built.device.precision}",
            "versions": {
                "finetune": __version__,
                **{name: version(name) for name in ("keras", "keras-hub", "tensorflow")},
            },
        },
        label=f"{built.origin.name} on {built.dataset.name}",
        direct=direct,
        graph=built.programs.graph,
        parts=built.programs.parts,
        batch_size=config.dataset.batch_size,
        seed=config.seed,
        decided=decided,
    )

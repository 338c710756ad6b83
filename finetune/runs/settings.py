"""Plain settings of a run, made once from its config."""

from dataclasses import asdict, dataclass

from finetune.config.schema import Config
from finetune.features.phase_cuts import FeatureSettings
from finetune.features.store import features_directory
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import BatchSettings


@dataclass(frozen=True)
class RunSettings:
    """The values of a config that training uses.

    Args:
        batches: How batches are made.
        features: How features are stored.
        optimizer: Settings of the optimizers.
        checkpoint_minutes: Time between two checkpoints within an epoch; None: there are none.
    """

    batches: BatchSettings
    features: FeatureSettings
    optimizer: OptimizerSettings
    checkpoint_minutes: float | None


def run_settings(config: Config) -> RunSettings:
    """Returns the settings of a checked config."""
    features, runtime = config.features, config.runtime
    return RunSettings(
        batches=BatchSettings(config.dataset.batch_size, config.seed, runtime.steps_per_execution),
        features=FeatureSettings(
            cache=features.cache,
            directory=features_directory(features.dir),
            max_bytes=int(features.max_gib * 2**30),
            dtype=features.dtype,
            views=features.views,
            standardise=config.head.standardise == "auto",
        ),
        optimizer=OptimizerSettings(**asdict(config.optimizer)),
        checkpoint_minutes=runtime.checkpoint_minutes,
    )

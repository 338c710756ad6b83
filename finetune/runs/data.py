"""What the phases of a run are fitted on: batches of the splits, or stored features of them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from finetune import __version__
from finetune.config.schema import Config
from finetune.errors import ConfigError
from finetune.features.phase_cuts import FeatureSettings, PhaseCuts
from finetune.features.service import FeatureService
from finetune.features.store import features_directory, require_writable
from finetune.record.schema import FeatureDecision
from finetune.runs.build import Run
from finetune.schedule.phase import Phase
from finetune.training.exact import exact_head_problems
from finetune.training.phase_data import BatchSettings, PhaseData, StoredPhaseData, phase_data


def computed_data(run: Run, config: Config) -> PhaseData:
    """Returns the data of a phase without stored features."""
    return phase_data(run.built.inventory.model, run.built.examples, _batches(config))


def stored_data(
    run: Run,
    config: Config,
    computed: PhaseData,
    decided: Mapping[int, FeatureDecision] | None = None,
) -> StoredPhaseData:
    """Returns what gives each phase of a run its data, with stored features where they are worth it.

    Args:
        run: What has been built.
        config: The checked config.
        computed: The data of a phase without stored features.
        decided: The final decisions of an earlier process by index of the phase.

    Raises:
        ConfigError: If a phase asks of stored features what they cannot give.
    """
    built, settings = run.built, config.features
    cuts = PhaseCuts(
        built.inventory,
        built.programs.graph,
        run.plans,
        built.examples,
        FeatureSettings(
            cache=settings.cache,
            directory=features_directory(settings.dir),
            max_bytes=int(settings.max_gib * 2**30),
            dtype=settings.dtype,
            views=settings.views,
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
    )
    require_possible(run.phases, cuts)
    features = FeatureService(cuts, run.phases, built.programs.parts, decided)
    return StoredPhaseData(features, computed, _batches(config))


def require_possible(phases: Sequence[Phase], cuts: PhaseCuts) -> None:
    """Refuses, before anything trains, what phases cannot get from stored features.

    Raises:
        ConfigError: With all problems at once.
    """
    problems = [cuts.views_problem(), *exact_head_problems(phases, cuts)]
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ConfigError(found)
    if cuts.settings.cache != "never":
        require_writable(cuts.settings.directory)


def _batches(config: Config) -> BatchSettings:
    return BatchSettings(config.dataset.batch_size, config.seed, config.runtime.steps_per_execution)
